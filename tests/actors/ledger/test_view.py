"""The ledger's view when the store cannot be read."""

import pytest

from greenroom.actors.effects import Send
from greenroom.actors.errors import RuntimeClosing
from greenroom.actors.ledger.protocol import (
    DescribeAgent,
    DescribeAgents,
    DescribeRun,
    DescribeState,
    Refused,
)
from greenroom.actors.ledger.view import View
from greenroom.actors.vocabulary import RunId
from greenroom.persistence.journal import Journal
from greenroom.persistence.protocol import Answer, Read

QUESTIONS = {
    "an agent": lambda view: view.agent(DescribeAgent(1, "caller", "/t/a")),
    "agents": lambda view: view.agents(DescribeAgents(1, "caller", "/", None, None, 10)),
    "agents at work": lambda view: view.agents(DescribeAgents(1, "caller", "/", "running", None, 10)),
    "a state": lambda view: view.state(DescribeState(1, "caller", "/t/a")),
    "a run": lambda view: view.run(DescribeRun(1, "caller", RunId("r"))),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_that_cannot_be_read_is_refused_with_the_reason(question) -> None:
    journal = Journal(durability="process", next_seq=1)
    (read,) = question(View(journal, {}, {}))
    assert isinstance(read.message, Read)
    error = RuntimeClosing()  # the reader has closed meanwhile
    answers = journal.answered(Answer(read.message.request, None, error))
    assert answers == [Send("caller", Refused(1, error))]
