"""What an interrupt costs does not depend on what else there is to do."""

from common.steps import Steps

from greenroom.actors.ledger import accepting, interrupting
from greenroom.actors.ledger.agent_runs import AgentRuns
from greenroom.actors.ledger.ledger import Ledger
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.protocol import AcceptRun, InterruptRuns
from greenroom.persistence.rows import Unfinished


def ledger() -> Ledger:
    unfinished = Unfinished(1, 2, 1, 1, (), (), 1)
    commit_log = CommitLog(durability="memory", next_seq=1)
    return Ledger(commit_log, unfinished, backlog=100_000, attempts_of=lambda _: 3)


def run(agent_id: int, path: str, run_id: str) -> AcceptRun:
    return AcceptRun(1, "caller", agent_id, path, "kind", b"", run_id, fresh=True)


def stop(agent_id: int, path: str, run_id: str | None = None) -> InterruptRuns:
    return InterruptRuns(1, "caller", agent_id, path, run_id, cascade=run_id is None, reason="stop")


def cost_of_one_of(queued: int) -> float:
    """Bytecodes for each of so many runs of one agent, which are interrupted newest first."""
    room = ledger()
    names = [f"run-{number}" for number in range(queued)]
    for name in names:
        accepting.accept_run(room, run(1, "/t/a", name))

    steps = Steps()
    with steps.bytecodes():
        for name in reversed(names):
            interrupting.interrupt(room, stop(1, "/t/a", name))
    assert not room.runs
    return steps.found["bytecodes"] / queued


def cost_beside(idle: int) -> int:
    """Bytecodes for the interrupt of a subtree with one run, where so many other agents are in memory."""
    room = ledger()
    for number in range(idle):
        room.desks[number] = AgentRuns(number, f"/t/idle/{number}", "kind", present=True)
    accepting.accept_run(room, run(10_000, "/t/busy/one", "run"))
    steps = Steps()
    with steps.bytecodes():
        interrupting.interrupt(room, stop(9_999, "/t/busy"))
    assert not room.runs
    return steps.found["bytecodes"]


def test_one_of_a_thousand_runs_is_interrupted_as_fast_as_one_of_ten() -> None:
    assert cost_of_one_of(1_000) < 1.1 * cost_of_one_of(10)


def test_a_subtree_is_interrupted_as_fast_beside_a_thousand_idle_agents_as_beside_ten() -> None:
    assert cost_beside(1_000) < 1.1 * cost_beside(10)
