"""The desks where a turn is under way, however the turns end."""

from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.ledger.agent_runs import AgentRuns, OpenRun
from greenroom.actors.ledger.underway import FIRST_BOUND, RunningTurns
from greenroom.persistence.rows import RunRow


def begin(desk: AgentRuns) -> None:
    desk.running = OpenRun(RunRow("r", 1, desk.agent_id, "/a", b"", 1.0), (), "memory")  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=300), st.booleans())
def test_it_knows_them_without_being_told_of_their_ends(moves: list[tuple[int, bool]], asked: bool) -> None:
    desks = [AgentRuns(number, "/a", "kind") for number in range(201)]  # type: ignore[arg-type]
    turns = RunningTurns()
    for number, begins in moves:
        if begins:
            begin(desks[number])
            turns.begun(desks[number])
        else:
            desks[number].stops()
        if asked:
            assert bool(turns) == any(desk.running for desk in desks)
    running = {desk.agent_id for desk in desks if desk.running}
    assert len(turns._desks) <= 2 * len(desks)
    assert {desk.agent_id for desk in turns} == running
    assert bool(turns) == bool(running)


def test_what_is_over_does_not_pile_up() -> None:
    turns = RunningTurns()
    for number in range(10_000):
        desk = AgentRuns(number, "/a", "kind")  # type: ignore[arg-type]
        begin(desk)
        turns.begun(desk)
        desk.stops()
    assert len(turns._desks) <= FIRST_BOUND + 1
