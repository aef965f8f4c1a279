"""Which agent a path means.

Owns what is known of paths: a bounded number of agents found lately, and a queue of commands for each path
that is being looked up or spawned. Commands of one queue never overtake each other. Knows no runs and no
sessions.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

from msgspec import Struct

from ...errors import AgentClosed, AgentNotFound, GreenroomError, PathTaken, RuntimeClosing, UnknownKind
from ...paths import tree_of
from ...persistence.queries import FindAgent, HasAgents, ListAgents
from ...persistence.rows import AgentRow
from ...types import AgentId, Timestamp
from ..effects import Effect, Send
from ..ledger.log.commit_log import PageOfAgents
from ..ledger.protocol import AcceptMessage, AcceptRun, InterruptRuns, RecordClose, RecordSpawn
from ..ledger.replies import AgentSpawned, CloseRecorded, RequestRefused, SpawnSettled, SpawnWithdrawn
from ..processes.protocol import EndErased
from ..residency.protocol import EvictAgent, PinAgent
from ..storage.protocol import Answer, Ask
from .path_filter import PathFilter
from .protocol import (
    AgentLocated,
    CloseAgent,
    CloseTree,
    DirectoryCommand,
    EvictPath,
    InterruptAgent,
    LocateAgent,
    PinPath,
    SpawnAgent,
    SubmitMessage,
    SubmitRun,
)
from .subtree_closing import SubtreeClosing, SubtreeClosings

AGENTS_IN_CLOSING_PAGE = 100
"""How many agents of a subtree are closed in one commit."""


class _Known(Struct, frozen=True, gc=False):
    """The agents by path: no more of the agent than commands need, as there are many."""

    agent_id: AgentId
    kind: str
    closed: bool = False
    started_by: int | None = None

    @classmethod
    def of(cls, row: AgentRow) -> "_Known":
        return cls(row.agent_id, row.kind, row.status == "closed", row.started_by)


class _Spawning(Struct, frozen=True):
    """A spawn that is being recorded, and who has its path if that is refused."""

    new: _Known
    before: _Known | None


class PathTable:
    """Commands by path in, commands by agent id out."""

    def __init__(
        self,
        *,
        next_agent_id: AgentId,
        remember: int,
        is_registered: Callable[[str], bool] = lambda _kind: True,
    ) -> None:
        self.now: Timestamp = 0.0  # told before each command
        self._next = next_agent_id
        self._most = remember
        self._is_registered = is_registered
        self._known: OrderedDict[str, _Known] = OrderedDict()  # used longest ago first
        self._lines: dict[str, deque[DirectoryCommand] | None] = {}  # None: nothing waits yet
        self._spawning: dict[str, _Spawning] = {}
        self._closings = SubtreeClosings()
        self._novelty = PathFilter()
        self._trees_asked: dict[str, list[str]] = {}  # paths that wait for news of their tree
        self._stopped: str | None = None

    @property
    def mark(self) -> tuple[int, ...]:
        """The changes of every command that has begun and was not handed on."""
        return self._next, len(self._lines), len(self._spawning), len(self._closings)

    def holds(self, command: DirectoryCommand) -> bool:
        """Whether `command` waits for something, and will be handed on later."""
        line = self._lines.get(command.path) or ()
        closing = self._closings.holder(command)
        return any(other is command for other in (*line, *(closing.held if closing else ())))

    def stop(self, reason: str) -> None:
        """Refuse every command from now on."""
        self._stopped = reason

    def handle(self, command: DirectoryCommand) -> list[Effect]:
        """Hand `command` on, now or when its path is known."""
        if self._stopped is not None:
            return [_refuse(command, RuntimeClosing(self._stopped))]
        closing = self._closings.holder(command)
        if closing is not None:
            closing.held.append(command)
            return []
        if isinstance(command, CloseTree):
            return self._close_tree(command)
        path = command.path
        if path in self._lines:
            self._wait(command)
            return []
        known = self._known.get(path)
        if known is not None:
            self._known.move_to_end(path)
            return self._decide(command, known)
        if isinstance(command, SpawnAgent) and self._novelty.is_new(path):
            return self._spawn(command, None)
        self._wait(command)
        return self._look_up(command)

    def _wait(self, command: DirectoryCommand) -> None:
        """Have `command` wait behind all others about its path."""
        line = self._lines.get(command.path)
        if line is None:
            line = self._lines[command.path] = deque()
        line.append(command)

    def _look_up(self, command: DirectoryCommand) -> list[Effect]:
        """Ask who has a path; where the first of a tree are spawned, ask for the tree, once for all."""
        path, tree = command.path, tree_of(command.path)
        spawns = isinstance(command, SpawnAgent)
        if spawns and tree in self._trees_asked:
            self._trees_asked[tree].append(path)
            return []
        if spawns and not self._novelty.knows(tree):
            self._trees_asked[tree] = [path]
            return [Send("ledger", Ask(("tree", tree), HasAgents(tree)))]
        return self._find(path)

    def _find(self, path: str) -> list[Effect]:
        self._closings.lookup_begins(path)
        return [Send("ledger", Ask(path, FindAgent(path)))]

    def answered(self, answer: Answer) -> list[Effect]:
        """The ledger knows who has a path, or who stands in a subtree that is closing."""
        if isinstance(answer.request, tuple):
            if answer.request[0] == "tree":
                return self._tree_looked_up(answer)
            return self._close_page(answer)
        path: str = answer.request  # type: ignore[assignment]
        if not self._closings.lookup_ends(path):
            return self._find(path)
        if answer.error is not None:
            return [_refuse(command, answer.error) for command in self._lines.pop(path) or ()]
        row: AgentRow | None = answer.value  # type: ignore[assignment]
        return self._resume(path, None if row is None else _Known.of(row))

    def _tree_looked_up(self, answer: Answer) -> list[Effect]:
        tree: str = answer.request[1]  # type: ignore[index]
        self._novelty.found(tree, empty=answer.error is None and not answer.value)
        lines = [self._lines.pop(path) for path in self._trees_asked.pop(tree)]
        # as if they came now: the subtree around a path may be closing by this time
        return [effect for line in lines for command in line or () for effect in self.handle(command)]

    def settled(self, news: SpawnSettled) -> list[Effect]:
        """A spawn was recorded, or refused and so never was."""
        spawning = self._spawning.pop(news.path)
        return self._resume(news.path, spawning.new if news.recorded else spawning.before)

    def withdrawn(self, news: SpawnWithdrawn) -> None:
        """A spawn was refused after all: the store knows who has its path."""
        known = self._known.get(news.path)
        if known is not None and known.agent_id == news.agent_id:
            del self._known[news.path]

    def _resume(self, path: str, known: _Known | None) -> list[Effect]:
        """Decide what waited in line, until something is to be waited for again."""
        line = self._lines.pop(path)
        effects: list[Effect] = []
        while line and path not in self._lines:
            closing = self._closings.holder(line[0])
            if closing is not None:
                closing.held.extend(line)
                break
            effects += self._decide(line.popleft(), known)
        if path in self._lines:
            self._lines[path] = line or None
        elif known is not None and self._closings.around(path) is None:
            self._remember(path, known)
        return effects

    def _remember(self, path: str, known: _Known) -> None:
        self._known[path] = known
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def _decide(self, command: DirectoryCommand, known: _Known | None) -> list[Effect]:
        if isinstance(command, SpawnAgent):
            return self._spawn(command, known)
        if known is None:
            return [_refuse(command, AgentNotFound(command.path))]
        if known.closed and not _may_be_closed(command):
            return [_refuse(command, AgentClosed(command.path))]
        return self._hand_on(command, known)

    def _hand_on(self, command: DirectoryCommand, known: _Known) -> list[Effect]:
        asks, to, agent_id, path = command.request, command.reply_to, known.agent_id, command.path
        match command:
            case SubmitRun():
                if not self._is_registered(known.kind):
                    return [_refuse(command, UnknownKind(known.kind, path))]
                run = AcceptRun(
                    asks,
                    to,
                    agent_id,
                    path,
                    known.kind,
                    command.input,
                    command.run_id,
                    command.fresh,
                    command.durability,
                    closed=known.closed,
                    started_by=command.started_by,
                )
                return [Send("ledger", run)]
            case SubmitMessage():
                body, sender, level = command.body, command.sender, command.durability
                return [Send("ledger", AcceptMessage(asks, to, agent_id, path, body, sender, level))]
            case InterruptAgent():
                run_id, cascade, reason = command.run_id, command.cascade, command.reason
                stop = InterruptRuns(asks, to, agent_id, path, run_id, cascade, reason)
                return [Send("ledger", stop)]
            case EvictPath():
                return [Send("residency", EvictAgent(asks, to, agent_id))]
            case PinPath():
                return [Send("residency", PinAgent(asks, to, agent_id, command.pinned))]
            case CloseAgent():
                return self._close(command, known)
            case LocateAgent():
                return [Send(to, AgentLocated(asks, agent_id, path, known.kind))]
            case SpawnAgent() | CloseTree():
                raise AssertionError("it is decided before")

    # Spawning

    def _spawn(self, command: SpawnAgent, known: _Known | None) -> list[Effect]:
        path, by = command.path, command.started_by
        if known is not None and command.finds and by is not None and by == known.started_by:
            found = AgentSpawned(command.request, known.agent_id, path, None, found=True)
            return [Send(command.reply_to, found)]
        taken = known.kind if known is not None and not known.closed else None
        if taken is not None and command.run_id is None:
            return [_refuse(command, PathTaken(path))]
        asks, to, first, run_id = command.request, command.reply_to, command.input, command.run_id
        new = AgentRow(
            agent_id=self._next,
            path=path,
            kind=command.kind,
            version=command.version,
            config=command.config,
            created_at=self.now,
            updated_at=self.now,
            started_by=by,
        )
        record = RecordSpawn(asks, to, new, first, run_id, command.durability, taken)
        if taken is not None:
            return [Send("ledger", record)]
        self._next = AgentId(self._next + 1)
        self._known.pop(path, None)
        self._lines[path] = None
        self._spawning[path] = _Spawning(_Known.of(new), known)
        self._novelty.add(path)
        return [Send("ledger", record)]

    # Closing

    def _close(self, command: CloseAgent, known: _Known) -> list[Effect]:
        """Close the subtree a page at a time, the agent itself last: until then its path is taken."""
        self._known.pop(command.path, None)
        closing = SubtreeClosing(command, known.agent_id, over=known.closed)
        self._closings.begin(closing)
        return [self._next_page(closing)]

    def _close_tree(self, command: CloseTree) -> list[Effect]:
        """The same for whoever stands there, at the path itself as well."""
        closing = SubtreeClosing(command)
        self._closings.begin(closing)
        return [self._next_page(closing)]

    def _next_page(self, closing: SubtreeClosing) -> Effect:
        path, (after, after_id) = closing.ask.path, closing.goes_on or (None, None)
        page = ListAgents(path, after, AGENTS_IN_CLOSING_PAGE, closed=closing.closed, after_id=after_id)
        return Send("ledger", Ask(("close", path, after), page))

    def _close_page(self, answer: Answer) -> list[Effect]:
        """Have the agents of a page ended; `CloseRecorded` says when they are."""
        path: str = answer.request[1]  # type: ignore[index]
        closing = self._closings[path]
        ask, over, root = closing.ask, closing.over, closing.agent_id
        if answer.error is not None:
            return [_refuse(ask, answer.error), *self._closed(path)]
        page: PageOfAgents = answer.value  # type: ignore[assignment]
        agents = tuple((row.agent_id, row.path) for row in page.rows if root is None or row.path != path)
        if over:
            agents = ()
        closed = closing.closed
        closing.goes_on = None if over or page.next is None else (page.next, page.next_id)
        if closing.goes_on is None and ask.erase and root is None and not closed:
            closing.closed, closing.goes_on = True, ("", None)  # those that were closed before
        last, turns = closing.goes_on is None, closing.closed and not closed
        if last and root is not None:
            agents += ((root, path),)
        for _, gone in agents:
            self._known.pop(gone, None)
        closing.count += len(agents)
        request, reply_to = (ask.request, ask.reply_to) if last else (None, None)
        record = RecordClose(
            request, reply_to, agents, ask.erase, over or closed, path, closing.count, turns
        )
        return [Send("ledger", record), *_end_processes(ask, agents)]

    def close_recorded(self, news: CloseRecorded) -> list[Effect]:
        """A page of agents is gone: go on with the next one, or let others have their paths."""
        closing = self._closings[news.closing]
        return self._closed(news.closing) if closing.goes_on is None else [self._next_page(closing)]

    def _closed(self, path: str) -> list[Effect]:
        """Let the commands go on that waited for the end of the subtree."""
        return [effect for command in self._closings.end(path) for effect in self.handle(command)]


def _end_processes(ask: CloseAgent | CloseTree, agents: tuple[tuple[AgentId, str], ...]) -> list[Effect]:
    """Programs that deleted agents left outside, whoever started them; sessions end their own."""
    if not ask.erase or not agents:
        return []
    return [Send("supervisor", EndErased(tuple(agent_id for agent_id, _ in agents)))]


def _may_be_closed(command: DirectoryCommand) -> bool:
    match command:
        case CloseAgent():
            return command.erase
        case LocateAgent():
            return command.closed
        case SubmitRun():
            return command.run_id is not None and not command.fresh  # it may name a run that there is
        case _:
            return False


def _refuse(command: DirectoryCommand, error: GreenroomError) -> Send:
    return Send(command.reply_to, RequestRefused(command.request, error))
