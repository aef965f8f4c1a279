"""Which agent a path means.

Owns what is known of paths: a bounded number of agents found lately, and the paths whose state is being
found out. Everything known of a path hangs on one `_Place`, so commands about it wait in one line while
it is looked up, spawned or closed, and can never overtake each other. Knows no runs and no sessions.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

from msgspec import Struct

from ...persistence.journal import AgentPage
from ...persistence.protocol import AgentRow, Answer, Ask, FindAgent, HasAgents, ListAgents
from ..effects import Effect, Send
from ..errors import (
    AgentClosed,
    AgentNotFound,
    GreenroomError,
    PathTaken,
    RuntimeClosing,
    UnknownKind,
)
from ..ledger.protocol import (
    AcceptMessage,
    AcceptRun,
    AgentSpawned,
    InterruptRuns,
    RecordClose,
    RecordSpawn,
    Refused,
    SpawnSettled,
)
from ..processes.protocol import EndErased
from ..residency.protocol import EvictAgent, PinAgent
from ..vocabulary import AgentId, Timestamp, is_under, tree_of
from .novelty import Novelty
from .protocol import (
    AgentLocated,
    CloseAgent,
    DirectoryCommand,
    EvictPath,
    InterruptAgent,
    LocateAgent,
    PinPath,
    SpawnAgent,
    SubmitMessage,
    SubmitRun,
)

PAGE = 1_000
"""How many agents of a subtree are closed in one commit."""


class _Place(Struct):
    """What is known of one path. `busy` while that is being found out or changed."""

    row: AgentRow | None = None
    busy: bool = False
    line: deque[DirectoryCommand] | None = None  # what waits for that

    def wait(self, command: DirectoryCommand) -> None:
        """Have `command` wait behind all others."""
        if self.line is None:
            self.line = deque()
        self.line.append(command)


class _Closing(Struct):
    """A subtree that is being closed: its commands wait until that is done."""

    ask: CloseAgent
    row: AgentRow
    held: list[DirectoryCommand] = []

    def holds(self, command: DirectoryCommand) -> bool:
        """Whether `command` is about the subtree, or would close one that contains it."""
        return is_under(command.path, self.ask.path) or (
            isinstance(command, CloseAgent) and is_under(self.ask.path, command.path)
        )


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
        self._remember = remember
        self._is_registered = is_registered
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._spawning: dict[str, AgentRow] = {}
        self._closing: dict[str, _Closing] = {}
        self._novelty = Novelty()
        self._trees_asked: dict[str, list[str]] = {}  # paths that wait for news of their tree
        self._stopped: str | None = None

    def stop(self, reason: str) -> None:
        """Refuse every command from now on."""
        self._stopped = reason

    def handle(self, command: DirectoryCommand) -> list[Effect]:
        """Hand `command` on, now or when its path is known."""
        if self._stopped is not None:
            return [_refuse(command, RuntimeClosing(self._stopped))]
        closing = self._holder(command)
        if closing is not None:
            closing.held.append(command)
            return []
        place = self._places.get(command.path)
        if place is None:
            place = self._places[command.path] = _Place()
            self._forget_oldest()
        else:
            self._places.move_to_end(command.path)
        if place.busy:
            place.wait(command)
            return []
        if place.row is not None or (
            isinstance(command, SpawnAgent) and self._novelty.is_new(command.path)
        ):
            return self._decide(command, place)
        place.busy = True
        place.wait(command)
        return self._look_up(command)

    def _look_up(self, command: DirectoryCommand) -> list[Effect]:
        """Ask who has a path; where the first of a tree are spawned, ask for the tree, once for all."""
        path, tree = command.path, tree_of(command.path)
        spawns = isinstance(command, SpawnAgent)
        if spawns and tree in self._trees_asked:
            self._trees_asked[tree].append(path)
            return []
        if spawns and self._novelty.is_first_of(tree):
            self._trees_asked[tree] = [path]
            return [Send("ledger", Ask(("tree", tree), HasAgents(tree)))]
        return [Send("ledger", Ask(path, FindAgent(path)))]

    def answered(self, answer: Answer) -> list[Effect]:
        """The ledger knows who has a path, or who stands in a subtree that is closing."""
        if isinstance(answer.request, tuple):
            if answer.request[0] == "tree":
                return self._tree_looked_up(answer)
            return self._close_page(answer)
        path: str = answer.request  # type: ignore[assignment]
        place = self._places[path]
        if answer.error is not None:
            del self._places[path]
            return [_refuse(command, answer.error) for command in place.line or ()]
        return self._resume(path, place, answer.value)  # type: ignore[arg-type]

    def _tree_looked_up(self, answer: Answer) -> list[Effect]:
        tree: str = answer.request[1]  # type: ignore[index]
        if answer.error is None and not answer.value:
            self._novelty.found_empty(tree)
        lines = [self._places.pop(path).line for path in self._trees_asked.pop(tree)]
        # as if they came now: the subtree around a path may be closing by this time
        return [effect for line in lines for command in line or () for effect in self.handle(command)]

    def settled(self, news: SpawnSettled) -> list[Effect]:
        """A spawn was recorded, or refused and so never was."""
        row = self._spawning.pop(news.path)
        place = self._places[news.path]
        return self._resume(news.path, place, row if news.recorded else place.row)

    def _resume(self, path: str, place: _Place, row: AgentRow | None) -> list[Effect]:
        """Decide what waited in line, until something is to be waited for again."""
        place.row, place.busy = row, False
        effects: list[Effect] = []
        while place.line and not place.busy:
            closing = self._holder(place.line[0])
            if closing is not None:
                closing.held.extend(place.line)
                place.line.clear()
                break
            effects += self._decide(place.line.popleft(), place)
        if not place.busy and any(is_under(path, closed) for closed in self._closing):
            place.row = None  # it is closed by now, or will be before anybody asks again
        if not place.line:
            place.line = None
            if place.row is None and not place.busy:
                self._places.pop(path, None)
        self._forget_oldest()
        return effects

    def _holder(self, command: DirectoryCommand) -> _Closing | None:
        return next((closing for closing in self._closing.values() if closing.holds(command)), None)

    def _decide(self, command: DirectoryCommand, place: _Place) -> list[Effect]:
        row = place.row
        if isinstance(command, SpawnAgent):
            return self._spawn(command, place)
        if row is None:
            return [_refuse(command, AgentNotFound(command.path))]
        if row.status == "closed" and not _may_be_closed(command):
            return [_refuse(command, AgentClosed(command.path))]
        return self._hand_on(command, row)

    def _hand_on(self, command: DirectoryCommand, row: AgentRow) -> list[Effect]:
        asks, to, agent_id, path = command.request, command.reply_to, row.agent_id, row.path
        match command:
            case SubmitRun():
                if not self._is_registered(row.kind):
                    return [_refuse(command, UnknownKind(row.kind, path))]
                run = AcceptRun(
                    asks,
                    to,
                    agent_id,
                    path,
                    row.kind,
                    command.input,
                    command.run_id,
                    command.fresh,
                    command.durability,
                    closed=row.status == "closed",
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
                return self._close(command, row)
            case LocateAgent():
                return [Send(to, AgentLocated(asks, agent_id, path, row.kind))]
            case SpawnAgent():
                raise AssertionError("a spawn is decided before")

    # Spawning

    def _spawn(self, command: SpawnAgent, place: _Place) -> list[Effect]:
        row = place.row
        if row is not None and command.origin is not None and command.origin == row.origin:
            return [Send(command.reply_to, AgentSpawned(command.request, row.agent_id, row.path, None))]
        if row is not None and row.status != "closed":
            return [_refuse(command, PathTaken(command.path))]
        new = AgentRow(
            agent_id=self._next,
            path=command.path,
            kind=command.kind,
            version=command.version,
            config=command.config,
            created_at=self.now,
            updated_at=self.now,
            origin=command.origin,
        )
        self._next = AgentId(self._next + 1)
        place.busy = True
        self._spawning[command.path] = new
        self._novelty.give_out(command.path)
        asks, to, first, run_id = command.request, command.reply_to, command.input, command.run_id
        return [Send("ledger", RecordSpawn(asks, to, new, first, run_id, command.durability))]

    # Closing

    def _close(self, command: CloseAgent, row: AgentRow) -> list[Effect]:
        """Close the subtree a page at a time, the agent itself last: until then its path is taken."""
        self._closing[command.path] = _Closing(command, row)
        for path, place in self._places.items():
            if is_under(path, command.path) and not place.busy:
                place.row = None
        return [self._next_page(command.path, None)]

    def _next_page(self, path: str, after: str | None) -> Effect:
        return Send("ledger", Ask(("close", path, after), ListAgents(path, after, PAGE)))

    def _close_page(self, answer: Answer) -> list[Effect]:
        path: str = answer.request[1]  # type: ignore[index]
        closing = self._closing[path]
        ask = closing.ask
        if answer.error is not None:
            return [_refuse(ask, answer.error), *self._closed(path)]
        page: AgentPage = answer.value  # type: ignore[assignment]
        over = closing.row.status == "closed"  # then what stands below has nothing to do with it
        below = () if over else tuple((row.agent_id, row.path) for row in page.rows if row.path != path)
        effects: list[Effect] = []
        if page.next is not None and not over:
            if below:
                effects.append(Send("ledger", RecordClose(None, None, below, ask.erase)))
                effects += _end_processes(ask, below)
            return [*effects, self._next_page(path, page.next)]
        agents = (*below, (closing.row.agent_id, path))
        effects.append(Send("ledger", RecordClose(ask.request, ask.reply_to, agents, ask.erase, over)))
        return [*effects, *_end_processes(ask, agents), *self._closed(path)]

    def _closed(self, path: str) -> list[Effect]:
        """Let the commands go on that waited for the end of the subtree."""
        held = self._closing.pop(path).held
        return [effect for command in held for effect in self.handle(command)]

    def _forget_oldest(self) -> None:
        """Keep to the bound; a path that something waits for is kept beyond it, as long as it does."""
        for _ in range(len(self._places) - self._remember):
            path, place = next(iter(self._places.items()))
            if place.busy:
                self._places.move_to_end(path)
            else:
                del self._places[path]


def _end_processes(ask: CloseAgent, agents: tuple[tuple[AgentId, str], ...]) -> list[Effect]:
    """What deleted agents left outside, whoever started it; sessions end their own."""
    return [Send("supervisor", EndErased(tuple(agent_id for agent_id, _ in agents)))] if ask.erase else []


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
    return Send(command.reply_to, Refused(command.request, error))
