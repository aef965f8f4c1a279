"""The audit of the kill trials finds what is planted in a store that is right."""

import pickle
import sqlite3
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from . import facts as look
from .audit import CHECKS, Audit
from .facts import QUESTIONS, AgentFact, EventFact, Facts, RunFact
from .record import Heard, Odd, Record, read_record
from .report import differences
from .trial import KILLS, Trial

pytestmark = pytest.mark.timeout(1800 + 150 * KILLS)

Plant = Callable[[Facts, Record], None]


@pytest.fixture(scope="module")
def right(trial: Trial) -> bytes:
    """What the store of a trial and its record say, pickled: a copy for each test."""
    if trial.found:
        pytest.skip("the trial has found something by itself")
    facts, record = look.read(look.copied(trial.store, trial.folder / "right")), read_record(trial.folder)
    assert Audit(record, facts, lives=trial.lives, over=True).findings() == []
    return pickle.dumps((facts, record))


def agent_of(facts: Facts, kind: str, **holds: Any) -> AgentFact:
    """An agent of this kind in whose state there is something."""
    found = (a for a in facts.agents.values() if a.kind == kind and a.open and a.state)
    return next(a for a in found if all(a.state[name] for name in holds or {"seen": 1}))


def run_of(facts: Facts, status: str = "completed", kind: str = "kill-tally", **holds: Any) -> RunFact:
    """A run in which `holds` stands in the input, of an open agent."""
    return next(
        run
        for run in facts.runs.values()
        if run.status == status
        and (agent := facts.agents[run.agent_id]).kind == kind
        and agent.open
        and holds.keys() <= run.input.keys()
    )


def a_run_is_gone(facts: Facts, record: Record) -> None:
    erased = {event.path for event in facts.events if event.type == "agent.deleted"}
    request = next(
        r
        for r in record.requests.values()
        if r.ask.do == "run" and r.fate == "done" and r.ask.path not in erased
    )
    del facts.runs[request.ask.run_id]


def a_refused_run_is_there(facts: Facts, record: Record) -> None:
    run = run_of(facts, half=1)
    next(r for r in record.requests.values() if r.ask.run_id == run.run_id).fate = "refused"


def a_run_got_anothers_input(facts: Facts, record: Record) -> None:
    run = run_of(facts, half=1)
    run.input = {**run.input, "token": "another's"}


def an_agent_got_anothers_config(facts: Facts, record: Record) -> None:
    agent_of(facts, "kill-tally", half=1).config = {"none": None}


def an_agent_whose_spawn_was_refused_is_there(facts: Facts, record: Record) -> None:
    asked = [r for r in record.requests.values() if r.ask.do in ("spawn", "close", "delete")]
    times = Counter(r.ask.path for r in asked)
    there = {agent.path for agent in facts.agents.values() if agent.open}
    spawn = next(r for r in asked if r.fate == "done" and r.ask.path in there and times[r.ask.path] == 1)
    spawn.fate = "refused"


def a_deleted_agent_is_there(facts: Facts, record: Record) -> None:
    agent = agent_of(facts, "kill-once")
    facts.agents[10**6] = msgspec.structs.replace(agent, agent_id=10**6)


def a_child_of_a_deleted_agent_is_open(facts: Facts, record: Record) -> None:
    opened = {agent.path for agent in facts.agents.values() if agent.open}
    ends = (r.ask.path for r in record.requests.values() if r.ask.do == "delete")
    path = next(path for path in ends if path not in opened) + "/child"
    child = msgspec.structs.replace(agent_of(facts, "kill-once"), agent_id=10**6, path=path)
    facts.agents[10**6] = child


def a_run_ended_twice(facts: Facts, record: Record) -> None:
    facts.events.append(next(event for event in facts.events if event.type == "run.completed"))


def a_run_was_accepted_twice(facts: Facts, record: Record) -> None:
    facts.events.append(next(event for event in facts.events if event.type == "run.accepted"))


def an_outcome_was_not_told(facts: Facts, record: Record) -> None:
    facts.events.remove(next(event for event in facts.events if event.type == "run.completed"))


def a_run_never_ended(facts: Facts, record: Record) -> None:
    run_of(facts).status = "accepted"


def an_outcome_changed(facts: Facts, record: Record) -> None:
    told = next(told for told in record.told if told.run_id in facts.runs)  # others were deleted
    facts.runs[told.run_id].error = "changed"


def an_event_was_not_heard(facts: Facts, record: Record) -> None:
    there = {event.seq for event in facts.events}  # those of deleted agents are not
    kept = [place for place, event in enumerate(record.heard) if event.seq in there]
    del record.heard[kept[len(kept) // 2]]


def an_event_was_heard_and_is_gone(facts: Facts, record: Record) -> None:
    del facts.events[-1]


def a_run_failed_by_itself(facts: Facts, record: Record) -> None:
    run = run_of(facts)
    run.status, run.error = "failed", "OSError: no space"


def a_run_was_interrupted_by_nobody(facts: Facts, record: Record) -> None:
    run = run_of(facts, half=1)
    run.status, run.error = "interrupted", "interrupted by its caller"
    for request in list(record.requests.values()):
        if request.ask.do == "interrupt":
            del record.requests[request.ask.q]


def a_run_was_counted_twice(facts: Facts, record: Record) -> None:
    state = agent_of(facts, "kill-clerk").state
    state["seen"].append(state["seen"][-1])
    state["count"] += 1


def a_run_was_not_counted(facts: Facts, record: Record) -> None:
    state = agent_of(facts, "kill-parent").state
    state["seen"].pop()
    state["count"] -= 1


def runs_were_counted_out_of_order(facts: Facts, record: Record) -> None:
    agent_of(facts, "kill-tally", half=1).state["seen"].reverse()


def a_message_was_read_twice(facts: Facts, record: Record) -> None:
    state = agent_of(facts, "kill-tally", read=1).state
    state["read"].append(state["read"][0])


def a_message_was_lost(facts: Facts, record: Record) -> None:
    agent, body = next(
        (agent, body)
        for agent in facts.agents.values()
        for body in (agent.state or {}).get("read", ())
        if body in record.requests and record.requests[body].fate == "done"
    )
    agent.state["read"].remove(body)


def a_message_was_made_up(facts: Facts, record: Record) -> None:
    agent_of(facts, "kill-tally", read=1).state["read"].append("made up")


def a_message_was_read_and_waits(facts: Facts, record: Record) -> None:
    agent = agent_of(facts, "kill-tally", read=1)
    agent.inbox.append(agent.state["read"][0])


def a_message_was_never_read(facts: Facts, record: Record) -> None:
    agent = agent_of(facts, "kill-tally", read=1)
    agent.inbox.append(agent.state["read"].pop())


def messages_were_read_out_of_order(facts: Facts, record: Record) -> None:
    for agent in facts.agents.values():
        if agent.path.endswith("/box"):
            agent.state["read"].reverse()


def a_failed_turn_sent_its_message(facts: Facts, record: Record) -> None:
    run_of(facts, post=1).status = "failed"


def a_checkpoint_was_taken_down_and_not_sent(facts: Facts, record: Record) -> None:
    run = run_of(facts, "completed", half=1)
    box = next(a for a in facts.agents.values() if a.path == run.input["half"])
    box.state["read"].remove(f"{run.run_id}/half")


def a_child_was_spawned_twice(facts: Facts, record: Record) -> None:
    run = run_of(facts, kind="kill-parent", width=1)
    path = f"{run.path}/{run.input['name']}-0"
    child = next(a for a in facts.agents.values() if a.path == path)
    facts.agents[10**6] = msgspec.structs.replace(child, agent_id=10**6)


def a_child_was_given_its_run_twice(facts: Facts, record: Record) -> None:
    run = run_of(facts, kind="kill-parent", width=1)
    again = next(r for r in facts.runs.values() if r.input["token"] == f"{run.input['token']}-0a")
    facts.runs["run-again"] = msgspec.structs.replace(again, run_id="run-again")


def a_parent_was_told_something_else(facts: Facts, record: Record) -> None:
    agent_of(facts, "kill-parent", family=1).state["family"][0][1][0][1] = "failed"


def a_continuation_ran_twice(facts: Facts, record: Record) -> None:
    run = next(r for r in facts.runs.values() if "of" in r.input and r.status == "completed")
    facts.runs["run-again"] = msgspec.structs.replace(run, run_id="run-again")


def a_continuation_is_missing(facts: Facts, record: Record) -> None:
    run = next(r for r in facts.runs.values() if "of" in r.input and r.status == "completed")
    del facts.runs[run.run_id]


def a_continuation_missed_an_outcome(facts: Facts, record: Record) -> None:
    agent_of(facts, "kill-fan", joined=1).state["joined"][0][1].pop()


def a_run_began_too_often(facts: Facts, record: Record) -> None:
    record.begun[run_of(facts, kind="kill-once").run_id] += 1


def a_beginning_was_not_counted(facts: Facts, record: Record) -> None:
    run_of(facts, kind="kill-tally", status="completed").attempt -= 1


def a_crash_is_held_against_all(facts: Facts, record: Record) -> None:
    for run in facts.runs.values():
        run.crashes = 1


def a_beginning_is_not_called_recovered(facts: Facts, record: Record) -> None:
    event = next(e for e in facts.events if e.type == "run.started" and e.data["attempt"] > 1)
    del event.data["recovered"]


def a_new_run_is_called_recovered(facts: Facts, record: Record) -> None:
    event = next(e for e in facts.events if e.type == "run.started" and not e.data.get("recovered"))
    event.data["recovered"] = True


def a_beginning_has_anothers_attempt(facts: Facts, record: Record) -> None:
    started = (e for e in facts.events if e.type == "run.started" and e.run_id in facts.runs)
    next(started).data["attempt"] = 99


def an_interrupted_run_began_again(facts: Facts, record: Record) -> None:
    request = next(
        r
        for r in record.requests.values()
        if r.ask.do == "interrupt" and r.value and r.ask.run_id in facts.runs
    )
    run = facts.runs[request.ask.run_id]
    data = {"attempt": 2, "recovered": True}
    facts.events.append(EventFact(10**6, request.at + 1, "run.started", run.path, run.run_id, data))


def the_worker_saw_something_odd(facts: Facts, record: Record) -> None:
    record.odd.append(Odd("/lane0", "odd"))


PLANTS: list[tuple[str, Plant]] = [
    ("accepted", a_run_is_gone),
    ("accepted", a_refused_run_is_there),
    ("accepted", a_run_got_anothers_input),
    ("agents", an_agent_got_anothers_config),
    ("agents", an_agent_whose_spawn_was_refused_is_there),
    ("agents", a_deleted_agent_is_there),
    ("descendants", a_child_of_a_deleted_agent_is_open),
    ("outcomes", a_run_ended_twice),
    ("outcomes", a_run_was_accepted_twice),
    ("outcomes", an_outcome_was_not_told),
    ("outcomes", a_run_never_ended),
    ("told", an_outcome_changed),
    ("told", an_event_was_not_heard),
    ("told", an_event_was_heard_and_is_gone),
    ("reasons", a_run_failed_by_itself),
    ("reasons", a_run_was_interrupted_by_nobody),
    ("counts", a_run_was_counted_twice),
    ("counts", a_run_was_not_counted),
    ("counts", runs_were_counted_out_of_order),
    ("messages", a_message_was_read_twice),
    ("messages", a_message_was_lost),
    ("messages", a_message_was_made_up),
    ("messages", a_message_was_read_and_waits),
    ("messages", a_message_was_never_read),
    ("messages", messages_were_read_out_of_order),
    ("messages", a_failed_turn_sent_its_message),
    ("messages", a_checkpoint_was_taken_down_and_not_sent),
    ("families", a_child_was_spawned_twice),
    ("families", a_child_was_given_its_run_twice),
    ("families", a_parent_was_told_something_else),
    ("continuations", a_continuation_ran_twice),
    ("continuations", a_continuation_is_missing),
    ("continuations", a_continuation_missed_an_outcome),
    ("attempts", a_run_began_too_often),
    ("attempts", a_beginning_was_not_counted),
    ("blame", a_crash_is_held_against_all),
    ("beginnings", a_beginning_is_not_called_recovered),
    ("beginnings", a_new_run_is_called_recovered),
    ("beginnings", a_beginning_has_anothers_attempt),
    ("interrupts", an_interrupted_run_began_again),
    ("worker", the_worker_saw_something_odd),
]

BREAKS = {
    "message has no agent": """INSERT INTO inbox (serial, agent_id, at, body)
        VALUES (1000000, 1000000, 0, x'00')""",
    "run has no agent": "UPDATE runs SET agent_id = 1000000 WHERE serial = (SELECT max(serial) FROM runs)",
    "snapshot has no agent": """INSERT INTO snapshots (agent_id, codec, version, data)
        VALUES (1000000, 'json', 1, x'00')""",
    "number of known agents": "UPDATE meta SET known = known + 1",
    "run has an impossible status": """UPDATE runs SET status = 'running'
        WHERE serial = (SELECT min(serial) FROM runs)""",
    "agent has an impossible status": "UPDATE agents SET status = 'running' WHERE path = '/lane0/box'",
    "closed agent has an open run": """UPDATE runs SET status = 'accepted'
        WHERE serial = (SELECT min(serial) FROM runs);
        UPDATE agents SET status = 'closed'
        WHERE agent_id = (SELECT agent_id FROM runs ORDER BY serial LIMIT 1)""",
    "outcome lacks its time": """UPDATE runs SET ended_at = NULL
        WHERE serial = (SELECT min(serial) FROM runs)""",
}


@pytest.mark.parametrize(("check", "plant"), PLANTS, ids=[plant.__name__ for _, plant in PLANTS])
def test_what_is_planted_is_found(trial: Trial, right: bytes, check: str, plant: Plant) -> None:
    facts, record = pickle.loads(right)
    try:
        plant(facts, record)
    except StopIteration:
        pytest.skip("nothing happened in this trial that this could be planted in")
    found = Audit(record, facts, lives=trial.lives, over=True).findings()
    assert check in {finding.check for finding in found}


def test_something_is_planted_for_every_check() -> None:
    assert {check for check, _ in PLANTS} | {"file"} == set(CHECKS)


@pytest.mark.parametrize("what", BREAKS)
def test_a_row_that_must_not_be_is_found(trial: Trial, what: str) -> None:
    store = look.copied(trial.store, trial.folder / "broken")
    with sqlite3.connect(store) as database:
        database.executescript(BREAKS[what])
        assert database.total_changes > 0
    database.close()
    with sqlite3.connect(store) as database:
        wrong = [name for name, question in QUESTIONS.items() if database.execute(question).fetchall()]
    database.close()
    assert any(what in name for name in wrong)


@pytest.mark.parametrize(
    ("gone", "is_right"),
    [(1, False), (2, False), (3, True), (4, True), (5, False), (6, False)],
)
def test_only_what_a_deleted_agent_left_may_be_gone(gone: int, is_right: bool) -> None:
    """At one path an agent was closed, its successor was deleted, and another one was spawned."""
    kinds = ["spawned", "closed", "spawned", "start_failed", "deleted", "spawned"]
    heard = [Heard(number, f"agent.{kind}", "/t/a", None) for number, kind in enumerate(kinds, 1)]
    events = [EventFact(h.seq, 0.0, h.type, h.path, None, {}) for h in heard if h.seq != gone]
    audit = Audit(Record({}, [], heard, [], Counter(), 0), Facts({}, {}, events, []), lives=[], over=True)
    assert (list(audit.check_told()) == []) is is_right


def test_what_is_being_removed_of_a_deleted_agent_counts_as_gone(trial: Trial) -> None:
    store = look.copied(trial.store, trial.folder / "under-removal")
    with sqlite3.connect(store) as database:
        agent_id, path = database.execute(
            "SELECT agent_id, path FROM agents JOIN runs USING (agent_id) ORDER BY serial LIMIT 1"
        ).fetchone()
        database.execute(
            "INSERT INTO erased (agent_id, path, low, high) VALUES (?, ?, 0, 1 << 60)", (agent_id, path)
        )
        database.execute("DELETE FROM agents WHERE agent_id = ?", (agent_id,))
        database.execute("DELETE FROM snapshots WHERE agent_id = ?", (agent_id,))
        database.execute(
            "INSERT INTO inbox (serial, agent_id, at, body) VALUES (1000000, ?, 0, x'00')", (agent_id,)
        )
        database.execute("UPDATE meta SET known = (SELECT count(*) FROM agents WHERE status <> 'closed')")
    database.close()
    facts = look.read(store)
    assert facts.wrong == []
    assert agent_id not in {run.agent_id for run in facts.runs.values()}
    assert path not in {event.path for event in facts.events}


REPORTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "something runs": lambda report: report["stats"].update(running=1),
    "an agent is not listed": lambda report: report["agents"].pop(),
    "an agent is busy": lambda report: report["agents"][0].update(status="running"),
    "a message waits": lambda report: report["agents"][0].update(inbox=1),
    "a state is another": lambda report: report["agents"][0]["state"].update(count=-1),
    "an outcome is another": lambda report: report["outcomes"].update(
        {run_id: None for run_id, outcome in list(report["outcomes"].items())[:9] if outcome}
    ),
    "an event is another": lambda report: report["events"][0].reverse(),
}


@pytest.mark.parametrize("what", REPORTS)
def test_what_the_runtime_shows_differently_is_found(trial: Trial, right: bytes, what: str) -> None:
    facts, _ = pickle.loads(right)
    report = msgspec.json.decode((trial.folder / "report.json").read_bytes())
    assert list(differences(report, facts)) == []
    REPORTS[what](report)
    assert list(differences(report, facts)) != []
