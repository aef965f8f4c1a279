"""The ledger's view: when the store cannot be read, and what a look costs."""

import pytest
from common.steps import Steps

from greenroom.actors.effects import Send
from greenroom.actors.ledger.agent_runs import AgentRuns, OpenRun
from greenroom.actors.ledger.descriptions import (
    AwaitedRun,
    DescribeAgent,
    DescribeAgents,
    DescribeRun,
    DescribeState,
)
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.queries import LedgerQueries
from greenroom.actors.ledger.replies import RequestRefused
from greenroom.actors.ledger.suspects import Suspects
from greenroom.actors.storage.protocol import Answer, Read
from greenroom.errors import RuntimeClosing
from greenroom.persistence.rows import AgentRow, RunRow
from greenroom.types import RunId

QUESTIONS = {
    "an agent": lambda view: view.agent(DescribeAgent(1, "caller", "/t/a")),
    "agents": lambda view: view.agents(DescribeAgents(1, "caller", "/", None, None, 10)),
    "agents at work": lambda view: view.agents(DescribeAgents(1, "caller", "/", "running", None, 10)),
    "a state": lambda view: view.state(DescribeState(1, "caller", "/t/a")),
    "a run": lambda view: view.run(DescribeRun(1, "caller", RunId("r"))),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_that_cannot_be_read_is_refused_with_the_reason(question) -> None:
    commit_log = CommitLog(durability="process", next_seq=1)
    (read,) = question(LedgerQueries(commit_log, {}, {}, Suspects()))
    assert isinstance(read.message, Read)
    error = RuntimeClosing()  # the reader has closed meanwhile
    answers = commit_log.answered(Answer(read.message.request, None, error))
    assert answers == [Send("caller", RequestRefused(1, error))]


def open_run(run_id: str, agent_id: int) -> OpenRun:
    return OpenRun(RunRow(run_id, 1, agent_id, f"/t/{agent_id}", b"", 1.0), set(), "process")


def steps_of_looking(others: int) -> int:
    """Bytecodes to tell of an agent whose turn waits for a run, where so many other runs are open."""
    parent, child = open_run("parent", 1), open_run("child", 2)
    runs = {run.row.run_id: run for run in [parent, child, *(open_run(f"r{n}", 3) for n in range(others))]}
    child.waiters[(1, 1, 1)] = "session"
    desk = AgentRuns(1, "/t/1", "kind", running=parent)
    desk.awaits((1, 1, 1), RunId("child"))
    desk.awaits((1, 1, 2), RunId("one that has ended"))
    commit_log = CommitLog(durability="process", next_seq=1)
    (read,) = LedgerQueries(commit_log, {1: desk}, runs, Suspects()).agent(
        DescribeAgent(1, "caller", "/t/1")
    )
    row = AgentRow(1, "/t/1", "kind", 1, b"", 1.0, 1.0)
    steps = Steps()
    with steps.bytecodes():
        told = commit_log.answered(Answer(read.message.request, row))
    assert [answer.message.agent.awaits for answer in told] == [(AwaitedRun("child", "/t/2"),)]
    return steps.found["bytecodes"]


def test_looking_at_an_agent_costs_the_same_however_many_runs_are_open() -> None:
    assert steps_of_looking(1_000) < 1.1 * steps_of_looking(10)
