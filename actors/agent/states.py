"""A session's state: made from its snapshot, and made into the next one.

Owns the live state and what it was last recorded as. Small states are encoded and decoded on the loop,
in one call in which nothing else can happen. Large ones, and those that a `migrate` of the user's has to
bring up to date, are worked on aside, on threads.

A snapshot is never a mixture: it is the state as it was at one moment. A state that is encoded aside is
read twice (`persistence.chunked_pickle`). It counts if both readings agree, and if the turn did nothing
else meanwhile that belongs to the same commit. If not, some task or thread of the user's does not leave the
state alone. Then it is encoded on the loop, in one call, for as long as that takes.
"""

import asyncio
import logging
from collections.abc import Callable
from inspect import iscoroutine
from typing import Any

from ...borders import error_text, let_out, type_name
from ...errors import CannotStore, SnapshotTampered, SnapshotUnreadable
from ...persistence.chunked_pickle import Changed
from ...persistence.rows import Snapshot
from ...persistence.state_codec import decode_state, encode_small, encode_state, is_large, pack_state
from ...stored_text import storable_text
from .kind import Kind
from .threads import run_in_thread, thread_limiter

log = logging.getLogger("greenroom")


class StateKeeper:
    """The state of one session, from turn to turn. All on the loop."""

    __slots__ = ("_fresh", "_kind", "_large", "_path", "_recorded", "_state", "_storing", "_warned")

    def __init__(self, kind: Kind, path: str, recorded: Snapshot | None) -> None:
        self._kind, self._path = kind, path
        self._recorded = recorded
        self._state: Any = None
        self._fresh = False  # whether `_state` is what `_recorded` says
        self._large = recorded is not None and is_large(recorded.data, recorded.codec)
        self._storing: asyncio.Future[None] | None = None  # one encoding aside at a time, or they overtake
        self._warned = False

    @property
    def takes_long(self) -> bool:
        """Whether `restore` has to wait for work done aside."""
        return _takes_long(self._kind, self._recorded)

    async def take(self) -> Any:
        """The state, for a turn to change. Raises what `restore` raises."""
        if not self._fresh:
            await self.restore()
        self._fresh = False
        return self._state

    async def restore(self) -> None:
        """Have the state be what was recorded last. Raises `SnapshotTampered`, `SnapshotUnreadable`."""
        self._state = await restored_aside(self._kind, self._path, self._recorded)
        self._fresh = True

    def restore_at_once(self) -> None:
        """The same, for what does not take long."""
        self._state = restored(self._kind, self._path, self._recorded)
        self._fresh = True

    async def snapshot(
        self, look: Callable[[], tuple[Any, object]], *, aside: Callable[[], object] | None = None
    ) -> Snapshot | None:
        """The state at one moment, as bytes; None if it is what was recorded last.

        `look` tells the state, and what else of the moment belongs to the same commit; the latter is
        the same when this returns as at that moment. `aside` is called before this waits for anything.
        Raises `CannotStore`.
        """
        codec, what = self._kind.codec, f"the state of {self._path}"
        if aside is not None and (self._large or self._storing is not None):
            aside()
        while self._storing is not None:
            await asyncio.wait({self._storing})
        if not self._large:
            small = encode_small(look()[0], codec, what)
            if small is not None:
                return self._unless_same(codec, small)
            if aside is not None:
                aside()
        done = self._storing = asyncio.get_running_loop().create_future()
        try:
            state, rest = look()
            tag, data = await thread_limiter().run(
                lambda: pack_state(state, codec, what), f"store {self._path}"
            )
            now, rest_now = look()
            if now is not state or rest_now != rest:
                raise Changed
        except Changed:
            self._warn()
            tag, data = codec, encode_state(look()[0], codec, what)
        finally:
            self._storing = None
            done.set_result(None)
        self._large = is_large(data, tag)
        return self._unless_same(tag, data)

    def recorded(self, snapshot: Snapshot | None) -> None:
        """This is what the ledger has; the turn under way goes on with the state."""
        if snapshot is not None:
            self._recorded = snapshot

    def keep(self, state: Any, snapshot: Snapshot | None) -> None:
        """A turn completed: `state` is the agent's from now on."""
        self.recorded(snapshot)
        self._state, self._fresh = state, True

    def _unless_same(self, tag: str, data: bytes) -> Snapshot | None:
        snapshot = Snapshot(tag, self._kind.version, data)
        return None if snapshot == self._recorded else snapshot

    def _warn(self) -> None:
        if not self._warned:
            log.warning(
                "%s (%s): its state changed while it was being stored, so all agents waited until it was: "
                "have tasks and threads of its own leave a large state alone at checkpoints and after the "
                "turn, and __getstate__ return the same twice",
                self._path,
                self._kind.name,
            )
        self._warned = True


def restored(kind: Kind, path: str, recorded: Snapshot | None) -> Any:
    """The state that a session begins with. Raises `SnapshotTampered`, `SnapshotUnreadable`."""
    if recorded is None:
        return kind.state()
    try:
        state = decode_state(recorded.data, recorded.codec)
    except (SnapshotTampered, SnapshotUnreadable):
        raise
    except BaseException as error:  # whatever the user's classes raise
        let_out(error)
        raise SnapshotUnreadable(path, short(error)) from error
    return state if recorded.version == kind.version else _migrated(kind, path, state, recorded.version)


async def restored_aside(kind: Kind, path: str, recorded: Snapshot | None) -> Any:
    """`restored`, without holding the loop up; the user's `migrate` has `open_timeout` seconds."""
    if not _takes_long(kind, recorded):
        return restored(kind, path, recorded)
    if recorded is not None and recorded.version == kind.version:
        return await thread_limiter().run(lambda: restored(kind, path, recorded), f"load {path}")
    # a thread for itself: one that never returns must not keep the thread limiter from its work
    migrating = run_in_thread(lambda: restored(kind, path, recorded), f"migrate {path}")
    try:
        async with asyncio.timeout(kind.open_timeout):
            return await asyncio.shield(migrating)
    except TimeoutError:
        problem = f"migrate() of version {kind.version} took longer than {kind.open_timeout:g} s"
        remedy = "Correct the kind's migrate= or raise its open_timeout=, and send another run"
        raise SnapshotUnreadable(path, problem, remedy) from None


def _takes_long(kind: Kind, recorded: Snapshot | None) -> bool:
    if recorded is None:
        return False
    return recorded.version != kind.version or is_large(recorded.data, recorded.codec)


def _migrated(kind: Kind, path: str, state: Any, version: int) -> Any:
    """The state as the kind's present version wants it, of which it is known that it can be stored."""
    written = f"it is of version {version} of kind {kind.name!r}"
    if version > kind.version:
        problem = f"{written}, which is newer than {kind.version}, the one registered here"
        raise SnapshotUnreadable(path, problem, f"Register version {version} of the kind again")
    if kind.migrate is None:
        problem = f"{written}, which is now {kind.version} and has no migrate="
        raise SnapshotUnreadable(path, problem, "Give the kind a migrate= that takes this version")

    def failed(problem: str) -> SnapshotUnreadable:
        problem = f"{written}, and migrate() of version {kind.version} {problem}"
        return SnapshotUnreadable(path, problem, "Correct the kind's migrate= and send another run")

    try:
        state = kind.migrate(state, version)
    except BaseException as error:  # it is theirs, whatever it raises
        raise failed(f"raised {short(error)}") from error
    if state is None and kind.state() is not None:  # it changed the old one in place, most likely
        raise failed("returned None. Have it return the state")
    if iscoroutine(state):
        state.close()
        raise failed("is async, which it cannot be")
    try:
        if encode_small(state, kind.codec, "it") is None:
            pack_state(state, kind.codec, "it")
    except CannotStore as error:
        raise failed(f"returned what cannot be stored: {error.problem}") from error
    except Changed as error:
        raise failed("goes on changing what it returned") from error
    return state


def short(error: BaseException) -> str:
    """An error in a line."""
    text = error_text(error)
    return storable_text(f"{type_name(error)}: {text}" if text else type_name(error))
