"""Every error that greenroom raises, by whose fault it is.

An error is made from the ids concerned, which are its attributes and its `args` (so it can be pickled
and sent); its text says what happened and what to do. Cores hand errors on as values, the public calls
raise them.
"""

MOST_IN_CIRCLE = 10
"""How many runs of a circle an error's text names."""


class GreenroomError(Exception):
    """The base of all errors of greenroom."""


# The caller's


class InvalidPath(GreenroomError, ValueError):
    """A path that no agent can have."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path!r} is no path: {self.problem}. A path looks like /tree/name."


class AgentNotFound(GreenroomError, LookupError):
    """No agent was ever spawned under this path, or it was deleted."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"there is no agent {self.path}. Spawn it first; a list of the agents shows which there are."


class AgentClosed(GreenroomError):
    """The agent was closed for good; its path is free."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"the agent {self.path} is closed. Spawn a new one under its path to go on."


class PathTaken(GreenroomError):
    """An open agent has this path already, in memory or on disk."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"an open agent has the path {self.path} already. Use agent({self.path!r}) to reach it, "
            "close it first, or choose another path."
        )


class UnknownKind(GreenroomError, LookupError):
    """No kind of this name is registered in this process."""

    def __init__(self, kind: str, path: str = "") -> None:
        super().__init__(kind, path)
        self.kind, self.path = kind, path

    def __str__(self) -> str:
        whose = f" (the kind of {self.path})" if self.path else ""
        return (
            f"no kind {self.kind!r}{whose} is registered here. Decorate it with @agent, and import the "
            "module where it stands or pass that in kinds=."
        )


class KindTaken(GreenroomError, ValueError):
    """Another kind was registered under this name and version."""

    def __init__(self, kind: str, where: str) -> None:
        super().__init__(kind, where)
        self.kind, self.where = kind, where

    def __str__(self) -> str:
        return (
            f"a kind {self.kind!r} with other code is registered already, from {self.where}. "
            "Give one of them another name, or a greater version= if it takes the place of the other."
        )


class OutOfTree(GreenroomError):
    """Code in a turn named a path outside its own tree."""

    def __init__(self, path: str, tree: str) -> None:
        super().__init__(path, tree)
        self.path, self.tree = path, tree

    def __str__(self) -> str:
        return (
            f"{self.path} is outside the tree /{self.tree}: an agent reaches its own tree only. "
            "Let the program outside the runtime carry what must cross."
        )


class RunNotFound(GreenroomError, LookupError):
    """No run has this id, or it ended so long ago that it was pruned."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return f"there is no run {self.run_id!r} in this store, or it was pruned long after its end."


class RunIdTaken(GreenroomError, ValueError):
    """The run id is not free: it names another run, or is one of the runtime's own.

    `path` is that run's; `problem` says how it differs from what was asked for, if its agent does not.
    """

    def __init__(self, run_id: str, path: str, problem: str | None = None) -> None:
        super().__init__(run_id, path, problem)
        self.run_id, self.path, self.problem = run_id, path, problem

    @classmethod
    def reserved(cls, run_id: str) -> "RunIdTaken":
        """An id that only the runtime gives."""
        return cls(run_id, "", "ids that begin with 'run-' are the runtime's own")

    def __str__(self) -> str:
        if not self.path:
            return f"the run id {self.run_id!r} cannot be chosen: {self.problem}. Choose another id."
        differs = f", {self.problem}" if self.problem else ""
        return f"the run id {self.run_id!r} names a run of {self.path}{differs}. Choose another id."


class KeyNeeded(GreenroomError):
    """A turn uses a name in a way that a count of its calls cannot tell apart after a crash.

    `what` is "run" for a `followup`; `name` is its name within the run, such as the path.
    """

    def __init__(self, run_id: str, path: str, what: str, name: str, why: str) -> None:
        super().__init__(run_id, path, what, name, why)
        self.run_id, self.path, self.what, self.name, self.why = run_id, path, what, name, why

    def __str__(self) -> str:
        return (
            f"run {self.run_id} of {self.path} asks for a {self.what} under the name {self.name!r} without "
            f"key=, and {self.why}. Begun again after a crash, it could be given another one's result. "
            "Give each such call a key= that says which one it is, such as the number of a page."
        )


class WouldDeadlock(GreenroomError):
    """A turn would wait for a run that cannot end before the turn itself has.

    `circle` is a triple for each run in it, the one that would wait first: how it needs the next one
    ("waits for", "goes on after", "begins after"; the last one needs the first), its id, and the path of
    its agent. It was refused at this wait; the others go on waiting.
    """

    def __init__(self, circle: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__(circle)
        self.circle = circle

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs in the circle, in its order."""
        return tuple(run_id for _, run_id, _ in self.circle)

    @property
    def paths(self) -> tuple[str, ...]:
        """Their agents."""
        return tuple(path for _, _, path in self.circle)

    def __str__(self) -> str:
        names = [f"{path} (run {run_id})" for _, run_id, path in self.circle]
        told = [
            f"{how} {name}" for (how, _, _), name in zip(self.circle, [*names[1:], names[0]], strict=True)
        ]
        if len(told) > MOST_IN_CIRCLE:
            told[MOST_IN_CIRCLE - 1 : -1] = [f"waits for {len(told) - MOST_IN_CIRCLE:,} others in turn"]
        return (
            f"this wait would never end: {names[0]} {', which '.join(told)}. "
            "Wait for one of these by turn.after() and return, or have only one wait for the other."
        )


class CannotStore(GreenroomError, TypeError):
    """A value that cannot be turned into bytes; `remedy` says what to do instead."""

    PICKLE = "Keep to values that pickle: no open files, locks, sockets, generators"
    SMALLER = "Keep what is that large in a file or a store of its own, and its name here"
    JSON_LIKE = "Use JSON-like values: None, bool, int, float, str, and lists and dicts of them"

    def __init__(self, what: str, problem: str, remedy: str = PICKLE) -> None:
        super().__init__(what, problem, remedy)
        self.what, self.problem, self.remedy = what, problem, remedy

    @classmethod
    def too_large(cls, what: str, size: int, most: int) -> "CannotStore":
        """A value of `size` bytes where `most` are allowed."""
        return cls(what, f"it takes {size:,} bytes, {most:,} are allowed", cls.SMALLER)

    def __str__(self) -> str:
        return f"{self.what} cannot be stored: {self.problem}. {self.remedy}."


# How a run ended


class RunFailed(GreenroomError):
    """The run's code raised, or the run could not be executed. `error_type` is as in `Outcome`."""

    def __init__(self, run_id: str, path: str, reason: str, error_type: str | None = None) -> None:
        super().__init__(run_id, path, reason, error_type)
        self.run_id, self.path, self.reason, self.error_type = run_id, path, reason, error_type

    def __str__(self) -> str:
        return f"run {self.run_id} of {self.path} failed: {self.reason}"


class RunInterrupted(GreenroomError):
    """The run was interrupted before it completed."""

    def __init__(self, run_id: str, path: str, reason: str) -> None:
        super().__init__(run_id, path, reason)
        self.run_id, self.path, self.reason = run_id, path, reason

    def __str__(self) -> str:
        return f"run {self.run_id} of {self.path} was interrupted: {self.reason}"


# Capacity


class ProcessFailed(GreenroomError):
    """A program could not be started for an agent, or did not do its work."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return self.problem


class BacklogFull(GreenroomError):
    """As many runs are accepted and not ended as the runtime may hold."""

    def __init__(self, path: str, backlog: int) -> None:
        super().__init__(path, backlog)
        self.path, self.backlog = path, backlog

    def __str__(self) -> str:
        return (
            f"nothing was recorded for {self.path}: {self.backlog} pieces of accepted work wait "
            "already. Try again when some have ended, or open the runtime with a larger backlog=."
        )


class RuntimeClosing(GreenroomError):
    """The runtime is closing or closed, or was never started."""

    def __init__(self, reason: str = "the runtime is closing") -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}: nothing was recorded. Open a runtime on the store to go on."


# Storage


class StoreError(GreenroomError):
    """Something is wrong with the store; says which one."""

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(store, problem)
        self.store, self.problem = store, problem

    def __str__(self) -> str:
        return f"store {self.store}: {self.problem}"


class StoreInUse(StoreError):
    """Another live process owns the store: `pid` on `host`, as far as they are known."""

    def __init__(self, store: str, problem: str, host: str | None = None, pid: int | None = None) -> None:
        super().__init__(store, problem)
        self.args = (store, problem, host, pid)
        self.host, self.pid = host, pid


class StoreLost(StoreError):
    """This process no longer owns the store, or can no longer write it."""


class StoreTooNew(StoreError):
    """The store was written by a newer greenroom."""


class StoreCorrupt(StoreError):
    """The file is no store of greenroom, or is damaged."""


class SnapshotTampered(GreenroomError):
    """Stored bytes do not carry this store's signature; nothing of them was read."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return (
            f"what is stored for {self.path} was refused unread: {self.problem}. The bytes are kept. "
            "Put the store's own key file back beside it, or delete() the agent."
        )


class SnapshotUnreadable(GreenroomError):
    """Stored bytes are genuine but cannot be turned into a value: a state, unless `what` says otherwise."""

    def __init__(
        self,
        path: str,
        problem: str,
        remedy: str = "Make the classes it names importable, give the kind a migrate=",
        what: str = "state",
    ) -> None:
        super().__init__(path, problem, remedy, what)
        self.path, self.problem, self.remedy, self.what = path, problem, remedy, what

    @classmethod
    def of_value(cls, what: str, path: str, problem: str) -> "SnapshotUnreadable":
        """A value that an agent was given or returned, such as "the input of run x"."""
        return cls(path, problem, "Make the classes it names importable", what)

    def __str__(self) -> str:
        or_else = ", or delete() the agent" if self.what == "state" else ""
        return (
            f"the stored {self.what} of {self.path} cannot be read: {self.problem}. The bytes are kept. "
            f"{self.remedy}{or_else}."
        )


# A broken invariant


class InternalError(GreenroomError):
    """A bug in greenroom. Please report it with the log.

    `stopped`: the runtime could not go on; else what was asked for is refused and nothing else is affected.
    """

    def __init__(self, problem: str, stopped: bool = True) -> None:
        super().__init__(problem, stopped)
        self.problem, self.stopped = problem, stopped

    def __str__(self) -> str:
        if not self.stopped:
            return (
                f"{self.problem}. This is a bug, please report it with the log. Nothing else is affected."
            )
        return (
            f"greenroom stopped itself: {self.problem}. This is a bug, please report it. What was "
            "accepted durably is in the store: open it again to go on."
        )


for _public in list(vars().values()):
    if isinstance(_public, type) and issubclass(_public, GreenroomError):
        _public.__module__ = "greenroom"  # as users import them, and read them in tracebacks
