"""When a store that cannot be written is tried again, and what is told of it."""

from greenroom.actors.ledger.store_outage import FIRST_RETRY, LAST_RETRY, Episode, StoreOutage
from greenroom.errors import StoreError


def test_an_episode_goes_from_the_first_failure_to_the_next_success() -> None:
    health = StoreOutage("agents.db")
    assert health.problem is None
    assert health.refusal("/t/a") is None
    assert health.succeeded() is None
    assert health.failed("the disk is full.", 10.0) is True
    assert health.failed("disk I/O error", 11.0) is False
    assert health.problem == "disk I/O error"
    assert health.succeeded() == Episode("disk I/O error", 10.0, 2)
    assert health.problem is None
    assert health.failed("the disk is full.", 20.0) is True


def test_the_pauses_double_up_to_a_bound() -> None:
    health = StoreOutage()
    pauses = []
    for n in range(200):
        health.failed("locked", float(n))
        pauses.append(health.pause)
    assert pauses[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LAST_RETRY
    health.succeeded()
    health.failed("locked", 0.0)
    assert health.pause == FIRST_RETRY


def test_a_refusal_says_what_happened_and_what_to_do() -> None:
    health = StoreOutage("agents.db")
    health.failed("the disk is full. Make room on it.", 0.0)
    error = health.refusal("/t/a")
    assert isinstance(error, StoreError)
    assert error.store == "agents.db"
    text = str(error)
    assert "nothing was recorded for /t/a" in text
    assert "Make room on it. It is tried again" in text
    assert 'durability="memory"' in text
