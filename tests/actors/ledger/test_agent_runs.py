"""A desk's queue against a list, and what it costs where it is long."""

from common.steps import Steps
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom.actors.ledger.agent_runs import AgentRuns, OpenRun
from greenroom.persistence.rows import RunRow


def open_run(serial: int) -> OpenRun:
    return OpenRun(RunRow(f"r{serial}", serial, 1, "/a", b"", 1.0), (), "memory")  # type: ignore[arg-type]


class AgainstAList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = AgentRuns(1, "/a", "kind")  # type: ignore[arg-type]
        self.queue: list[OpenRun] = []
        self.made = 0

    def make(self) -> OpenRun:
        self.made += 1
        return open_run(self.made)

    @rule()
    def push(self) -> None:
        run = self.make()
        self.queue.append(run)
        self.desk.push(run)

    @precondition(lambda self: self.queue)
    @rule()
    def pull(self) -> None:
        assert self.desk.pull() is self.queue.pop(0)

    @rule()
    def put_back(self) -> None:
        run = self.make()
        self.queue.insert(0, run)
        self.desk.put_back(run)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        run = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        run.state = "ended"
        self.desk.drop(run)

    @invariant()
    def they_agree(self) -> None:
        assert self.desk.queued == self.queue
        assert self.desk.length == len(self.queue)
        assert bool(self.desk.queue) == bool(self.queue)
        assert self.desk.first is (self.queue[0] if self.queue else None)
        assert len(self.desk.queue) <= 2 * len(self.queue) + 1, "what has ended does not pile up"


AgainstAList.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
test_the_queue_keeps_to_a_list = AgainstAList.TestCase


def cost_of_dropping(length: int) -> float:
    """Calls for each run of a long queue that is dropped, from its middle outwards."""
    desk = AgentRuns(1, "/a", "kind")  # type: ignore[arg-type]
    runs = [open_run(serial) for serial in range(length)]
    for run in runs:
        desk.push(run)
    steps = Steps()
    with steps.bytecodes():
        for run in sorted(runs, key=lambda run: abs(run.row.serial - length // 2)):
            run.state = "ended"
            desk.drop(run)
    return steps.found["bytecodes"] / length


def test_a_run_is_taken_out_of_a_long_queue_at_the_cost_of_a_short_one() -> None:
    assert cost_of_dropping(2_000) < 1.5 * cost_of_dropping(100)
