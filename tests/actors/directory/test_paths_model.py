"""The path table against a dict: whoever races, one open agent a path, and no command is lost."""

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from greenroom.actors.directory.path_filter import MOST_TREES
from greenroom.actors.directory.paths import PathTable
from greenroom.actors.directory.protocol import CloseAgent, CloseTree, SpawnAgent, SubmitRun
from greenroom.actors.effects import Send
from greenroom.actors.ledger.log.commit_log import PageOfAgents
from greenroom.actors.ledger.protocol import AcceptRun, RecordClose, RecordSpawn
from greenroom.actors.ledger.replies import CloseRecorded, RequestRefused, SpawnSettled
from greenroom.actors.storage.protocol import Answer, Ask
from greenroom.errors import PathTaken
from greenroom.paths import is_under, tree_of
from greenroom.persistence.queries import FindAgent, HasAgents, ListAgents
from greenroom.persistence.rows import AgentRow

PATHS = ["/a", "/a/b", "/a/b/c", "/a/d", "/e"]
CALLER = "caller"


class Paths(RuleBasedStateMachine):
    """The machine is the ledger: it answers questions when Hypothesis says so, as of that moment."""

    def __init__(self) -> None:
        super().__init__()
        self.trees_before: set[str] = set()
        self.table = PathTable(next_agent_id=1, remember=3)
        self.ledger: deque[Any] = deque()  # what was sent to it, in order
        self.open: dict[str, AgentRow] = {}
        self.closed: dict[str, AgentRow] = {}  # who was closed there last
        self.graves: set[tuple[str, int]] = set()  # all that were closed, and not erased
        self.ids: set[int] = set()
        self.asked: dict[int, Any] = {}  # commands without an answer
        self.number = 0
        self.settling: deque[Any] = deque()  # answers of the ledger on their way

    @initialize(found=st.dictionaries(st.sampled_from(PATHS), st.booleans(), max_size=2))
    def agents_of_an_earlier_life(self, found: dict[str, bool]) -> None:
        for number, (path, is_open) in enumerate(found.items()):
            row = AgentRow(1_000 + number, path, "kind", 1, b"", 0.0, 0.0)
            self.trees_before.add(tree_of(path))
            if is_open:
                self.open[path] = row
            else:
                self.closed[path] = replace(row, status="closed")
                self.graves.add((path, row.agent_id))

    def command(self, make: Any) -> None:
        self.number += 1
        command = make(self.number)
        self.asked[self.number] = command
        self.take(self.table.handle(command))

    def take(self, effects: list[Any]) -> None:
        for effect in effects:
            assert isinstance(effect, Send)
            if effect.to == "ledger":
                self.ledger.append(effect.message)
            elif effect.to == CALLER:
                self.answered(effect.message)

    def answered(self, message: Any) -> None:
        command = self.asked.pop(message.request)
        if isinstance(message, RequestRefused) and isinstance(message.error, PathTaken):
            assert isinstance(command, SpawnAgent)

    @rule(path=st.sampled_from(PATHS))
    def spawn(self, path: str) -> None:
        self.command(lambda n: SpawnAgent(n, CALLER, path, "kind", 1, b""))

    @rule(path=st.sampled_from(PATHS))
    def run(self, path: str) -> None:
        self.command(lambda n: SubmitRun(n, CALLER, path, b""))

    @rule(path=st.sampled_from(PATHS))
    def close(self, path: str) -> None:
        self.command(lambda n: CloseAgent(n, CALLER, path))

    @rule(under=st.sampled_from(["/", *PATHS]), erase=st.booleans())
    def close_tree(self, under: str, erase: bool) -> None:
        self.command(lambda n: CloseTree(n, CALLER, under, erase))

    @rule(refuse=st.booleans(), late=st.booleans())
    def the_ledger_handles_a_message(self, refuse: bool, late: bool) -> None:
        if not self.ledger:
            return
        match self.ledger.popleft():
            case Ask(request, FindAgent(path)):
                self.settling.append(Answer(request, self.open.get(path) or self.closed.get(path)))
            case Ask(request, HasAgents(tree)):  # of what was spawned here, the disk may know or not
                here = any(tree_of(path) == tree for path in (*self.open, *self.closed))
                self.settling.append(Answer(request, tree in self.trees_before or (here and not late)))
            case Ask(request, ListAgents() as query):
                self.settling.append(Answer(request, self.page(query)))
            case RecordSpawn(request, _, row) as spawn:
                assert row.path not in self.open, "two open agents at one path"
                assert row.agent_id not in self.ids
                if not refuse:
                    self.open[row.path] = row
                    self.ids.add(row.agent_id)
                self.asked.pop(request)
                self.settling.append(SpawnSettled(spawn.row.agent_id, row.path, not refuse))
            case AcceptRun(request, _, agent_id, path):
                assert self.open[path].agent_id == agent_id, "a run for an agent that is closed"
                self.asked.pop(request)
            case RecordClose(request, _, agents, erase, over) as record:
                for agent_id, path in agents:
                    self.end(agent_id, path, erase=erase, over=over)
                if request is not None:
                    self.all_are_gone(self.asked.pop(request))
                self.settling.append(CloseRecorded(record.closing))
            case other:
                raise AssertionError(other)

    def page(self, query: ListAgents) -> PageOfAgents:
        """At most two agents, so that most subtrees have several pages."""
        places = [(path, row.agent_id) for path, row in self.open.items()]
        places = sorted(self.graves if query.closed else places)
        after = (query.after or "", 10_000 if query.after_id is None else query.after_id)
        found = [place for place in places if is_under(place[0], query.under) and place > after]
        rows = tuple(AgentRow(agent_id, path, "kind", 1, b"", 0.0, 0.0) for path, agent_id in found[:2])
        return PageOfAgents(rows, *found[1]) if len(found) > 2 else PageOfAgents(rows, None)

    def end(self, agent_id: int, path: str, *, erase: bool, over: bool) -> None:
        if over:
            assert erase, "what is closed is closed again"
            self.graves.remove((path, agent_id))
            if path in self.closed and self.closed[path].agent_id == agent_id:
                del self.closed[path]
            return
        row = self.open.pop(path)
        assert row.agent_id == agent_id
        if not erase:
            self.closed[path] = replace(row, status="closed")
            self.graves.add((path, agent_id))

    def all_are_gone(self, command: CloseAgent | CloseTree) -> None:
        left = [path for path in self.open if is_under(path, command.path)]
        if isinstance(command, CloseTree):
            left += [path for path, _ in self.graves if command.erase and is_under(path, command.path)]
        assert not left, f"{command} was answered too early"

    @rule()
    def the_disk_does_not_answer_at_once(self) -> None:
        """What was asked after this question is answered before it: the ledger asks once more, later."""
        if self.ledger and isinstance(self.ledger[0], Ask) and isinstance(self.ledger[0].query, FindAgent):
            self.ledger.append(self.ledger.popleft())

    @rule()
    def an_answer_arrives(self) -> None:
        if not self.settling:
            return
        answer = self.settling.popleft()
        if isinstance(answer, SpawnSettled):
            self.take(self.table.settled(answer))
        elif isinstance(answer, CloseRecorded):
            self.take(self.table.close_recorded(answer))
        else:
            self.take(self.table.answered(answer))

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        if not self.ledger and not self.settling:
            assert not self.asked, "a command was forgotten"

    def teardown(self) -> None:
        while self.ledger or self.settling:
            self.the_ledger_handles_a_message(refuse=False, late=False)
            self.an_answer_arrives()
        assert not self.asked
        assert len(self.table._known) <= 3, "more paths are kept than were to be remembered"


def test_a_path_that_waits_for_its_tree_while_the_tree_closes_is_not_closed_twice() -> None:
    """It was asked for after the closing had begun, and answered from before it was recorded."""
    paths = Paths()
    paths.agents_of_an_earlier_life({"/a/b": True})
    paths.close("/a")
    paths.spawn("/a")
    paths.the_ledger_handles_a_message(refuse=False, late=False)
    paths.an_answer_arrives()
    paths.close("/a")
    paths.the_ledger_handles_a_message(refuse=False, late=False)
    paths.spawn("/a/b")
    paths.the_ledger_handles_a_message(refuse=False, late=False)
    paths.close("/a/b")
    paths.teardown()


def test_more_trees_than_are_remembered_are_each_asked_for_once() -> None:
    paths = Paths()
    trees = range(2 * MOST_TREES)
    for tree in trees:
        paths.command(lambda n, tree=tree: SpawnAgent(n, CALLER, f"/{tree}", "kind", 1, b""))
    for _ in trees:
        paths.the_ledger_handles_a_message(refuse=False, late=False)
    for _ in trees:
        paths.an_answer_arrives()
    assert {type(message) for message in paths.ledger} == {RecordSpawn}
    paths.teardown()


def test_a_path_that_was_found_before_its_subtree_closed_is_looked_up_again() -> None:
    """The disk was asked for it twice, so its answer is overtaken by what closes the subtree."""
    paths = Paths()
    paths.agents_of_an_earlier_life({"/a": True, "/a/b": True})
    paths.run("/a/b")
    paths.close("/a")
    paths.the_disk_does_not_answer_at_once()
    paths.the_ledger_handles_a_message(refuse=False, late=False)  # who has /a
    paths.an_answer_arrives()
    paths.the_disk_does_not_answer_at_once()
    paths.the_ledger_handles_a_message(refuse=False, late=False)  # who stands below /a
    paths.the_ledger_handles_a_message(refuse=False, late=False)  # who has /a/b: an open agent, for now
    paths.an_answer_arrives()
    paths.an_answer_arrives()
    paths.teardown()


Paths.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
test_the_path_table_keeps_to_a_dict = Paths.TestCase
