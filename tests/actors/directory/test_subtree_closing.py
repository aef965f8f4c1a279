"""The closings against lists, and what they cost where there are many."""

from common.steps import Steps
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom.actors.directory.paths import PathTable
from greenroom.actors.directory.protocol import CloseAgent, SubmitRun
from greenroom.actors.directory.subtree_closing import SubtreeClosing, SubtreeClosings
from greenroom.actors.ledger.log.commit_log import PageOfAgents
from greenroom.actors.ledger.replies import CloseRecorded
from greenroom.actors.storage.protocol import Answer
from greenroom.paths import is_under
from greenroom.persistence.rows import AgentRow

PATHS = ["/", "/a", "/a/b", "/a/b/c", "/a/bc", "/d"]
CALLER = "caller"


class AgainstLists(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.closings = SubtreeClosings()
        self.under_way: list[str] = []
        self.lookups: dict[str, bool] = {}  # whether what is found still counts

    @rule(path=st.sampled_from(PATHS))
    def close(self, path: str) -> None:
        ask = CloseAgent(1, CALLER, path)
        holder = self.closings.holder(ask)
        related = [at for at in self.under_way if is_under(at, path) or is_under(path, at)]
        if holder is None:
            assert not related
            self.closings.begin(SubtreeClosing(ask, 1, over=False))
            self.under_way.append(path)
        else:
            assert holder.ask.path in related

    @rule(path=st.sampled_from(PATHS))
    def ask(self, path: str) -> None:
        holder = self.closings.holder(SubmitRun(1, CALLER, path, b""))
        around = [at for at in self.under_way if is_under(path, at)]
        assert (holder and [holder.ask.path]) == (around or None)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def closed(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(path)
        assert self.closings.end(path) == []
        for at in self.lookups:
            self.lookups[at] = self.lookups[at] and not is_under(at, path)

    @rule(path=st.sampled_from(PATHS))
    def look_up(self, path: str) -> None:
        if path not in self.lookups:
            self.closings.lookup_begins(path)
            self.lookups[path] = True

    @precondition(lambda self: self.lookups)
    @rule(data=st.data())
    def found(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.lookups)))
        assert self.closings.lookup_ends(path) == self.lookups.pop(path)

    @invariant()
    def nothing_stays_of_what_is_over(self) -> None:
        if not self.under_way:
            assert not self.closings._below
        if not self.lookups:
            assert not self.closings._ended


AgainstLists.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
test_the_closings_keep_to_lists = AgainstLists.TestCase


def cost_of_closing(agents: int) -> float:
    """Bytecodes for each of so many agents on disk that are closed at once, each by its own command."""
    table = PathTable(next_agent_id=1, remember=agents)
    rows = [AgentRow(n, f"/t/{n}", "kind", 1, b"", 0.0, 0.0) for n in range(agents)]

    def close_all() -> None:
        for row in rows:
            table.handle(CloseAgent(row.agent_id, CALLER, row.path))
        for row in rows:
            table.answered(Answer(row.path, row))
        for row in rows:
            table.answered(Answer(("close", row.path, None), PageOfAgents((row,), None)))
        for row in rows:
            table.close_recorded(CloseRecorded(row.path))

    steps = Steps()
    with steps.bytecodes():
        close_all()
    return steps.found["bytecodes"] / agents


def test_a_thousand_closings_at_once_cost_as_much_each_as_ten() -> None:
    assert cost_of_closing(1_000) < 1.1 * cost_of_closing(10)
