"""G1 to G8, G11 and G15, each checked from outside: at every moment, and when nothing is left to happen.

A check gets the model (what was promised) and what was observed; it raises `AssertionError` with the name
of its guarantee. The end of each run is held against the specification when it is told: see `observing`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial

from greenroom import Event, RunNotFound
from greenroom.paths import is_under

from .calls import Model
from .clocks import ROUNDING
from .observing import Observed, is_old, which
from .scripts import EXECUTING, TERMINAL, Script

MARGIN = 5 + 12 + 60 + 1
"""Seconds that closing may take beyond the drain time; see docs/semantics.md."""

MOST_ROUNDS = 200

Check = Callable[[Model, Observed], None]


def g1_turns_executing_never_exceed_slots(model: Model, seen: Observed) -> None:
    assert EXECUTING.most <= model.slots, f"G1: {EXECUTING.most} turns at a time, slots={model.slots}"
    assert seen.stats.slots_taken <= model.slots, f"G1: {seen.stats.slots_taken} slots of {model.slots}"


def g2_every_run_gets_one_outcome_and_one_terminal_event(model: Model, seen: Observed) -> None:
    for (run_id, _), count in seen.ended.items():
        assert count == 1, f"G2: {run_id} was told to have ended {count} times"
    for event in model.witness.events.values():
        if event.type == "run.accepted" and "after" not in event.data:
            asked = str(event.run_id)
            known = asked.startswith("run-") or asked in model.spec.asked
            assert known, f"G2: {asked} was accepted, and nobody asked for it"
    for run_id, status in seen.file.runs.items():
        count = seen.file.ends[run_id]
        assert count == (status != "accepted") or model.spec.prunes, (
            f"G2: in the file {run_id} is {status}, with {count} events of its end"
        )


def g3_what_was_accepted_survives(model: Model, seen: Observed) -> None:
    ends = model.witness.file_ends
    for run_id, status in seen.file.runs.items():
        if status != "accepted":
            assert ends.setdefault(run_id, status) == status, f"G3: {run_id} was {ends[run_id]} in the file"
    for life in model.spec.open():
        if life.is_open:
            info = seen.agents.get(life.path)
            assert info is not None, f"G3: {life} is gone"
            assert info.config == {"life": life.number}, f"G5: {life} has the config {info.config}"


def g4_residents_never_exceed_their_number(model: Model, seen: Observed) -> None:
    """Those that wait inside a turn are counted apart. Who is pinned stays."""
    stats = seen.stats
    assert stats.resident <= model.residents, f"G4: {stats.resident} residents, residents={model.residents}"
    for path, was_there in model.pinned.items():
        info = seen.agents.get(path)
        if info is not None and info.kind != "model.house" and not model.spec.reads_fail:
            assert info.resident or not was_there, f"G4: {path} is pinned, was there and is not"
            model.pinned[path] = info.resident


def g5_eviction_and_reload_are_invisible(model: Model, seen: Observed) -> None:
    """Where it is done on purpose, `Model.evict` compares; here, what no coming and going may change."""
    for life in model.spec.open():
        info = seen.agents.get(life.path)
        if life.is_open and info is not None:
            assert info.kind == life.kind, f"G5: {life} is a {info.kind}"
            key, newer = which(info), info.last_outcome
            last = model.witness.outcomes.get(key)
            shown = model.spec.clock.earliest
            assert last is None or (newer and shown(newer.ended_at) >= shown(last.ended_at) - ROUNDING), (
                f"G5: the last outcome of {life.path} was {last}, and is {newer}"
            )
            model.witness.outcomes[key] = newer


def g6_late_news_change_nothing(model: Model, seen: Observed) -> None:
    for info in seen.agents.values():
        key = which(info)
        before = model.witness.incarnations.get(key, 0)
        assert info.incarnation >= before, f"G6: {info.path} went back to incarnation {info.incarnation}"
        model.witness.incarnations[key] = info.incarnation


def g7_one_open_agent_per_path(model: Model, seen: Observed) -> None:
    assert seen.listed == len(seen.agents), "G7: two open agents at one path"
    twice = [path for path, count in seen.file.open_paths.items() if count > 1]
    assert not twice, f"G7: in the file, two open agents at {twice}"


def g8_code_reaches_its_own_tree_only(model: Model, seen: Observed) -> None:
    """Turns look for themselves, and for much else: see `scripts`."""
    assert not EXECUTING.wrong, "; ".join(EXECUTING.wrong)


def g15_a_crash_is_held_against_one_run_at_most(model: Model, seen: Observed) -> None:
    """And closing against none."""
    before = model.witness.crashes
    model.witness.blamed += sum(
        max(0, n - before.get(run_id, 0)) for run_id, n in seen.file.crashes.items()
    )
    model.witness.crashes = seen.file.crashes
    assert model.witness.blamed <= model.deaths, (
        f"G15: {model.deaths} crashes, and {model.witness.blamed} are held against runs"
    )


def g11_closing_takes_a_bounded_time(model: Model, seen: Observed) -> None:
    drain, took = model.closing_took
    assert took <= drain + MARGIN, f"G11: closing took {took:g} s, with {drain:g} s to drain"


def no_reader_of_events_loses_one(model: Model, seen: Observed) -> None:
    """However much slower it is than those who make them."""
    for reader in model.readers:
        reader.check(_readable(model, reader.under), all_of_them=False)


def _readable(model: Model, under: str) -> dict[int, Event]:
    """What a reader of this process must be given: not what was erased, or pruned before it began."""
    events, spec = model.witness.events, model.spec
    return {
        seq: event
        for seq, event in events.items()
        if is_under(event.path, under)
        and not spec.may_be_erased(event.path)
        and not is_old(event, spec, model.now)
    }


GUARANTEES: tuple[Check, ...] = (
    g1_turns_executing_never_exceed_slots,
    g2_every_run_gets_one_outcome_and_one_terminal_event,
    g3_what_was_accepted_survives,
    g4_residents_never_exceed_their_number,
    g5_eviction_and_reload_are_invisible,
    g6_late_news_change_nothing,
    g7_one_open_agent_per_path,
    g8_code_reaches_its_own_tree_only,
    g11_closing_takes_a_bounded_time,
    g15_a_crash_is_held_against_one_run_at_most,
    no_reader_of_events_loses_one,
)


def check_now(model: Model) -> None:
    """All of them, at this moment."""
    seen = model.look()
    if seen is not None:
        for check in GUARANTEES:
            check(model, seen)


# When nothing is left to happen


def check_at_rest(model: Model) -> None:
    """Everything comes to an end by itself, but for code that hangs; and is written down so."""
    simulation = model.simulation
    simulation.faults()
    model.put_store_back()
    model.reopen()
    for path in sorted(model.pinned):
        model.pin(path, pinned=False)
    come_to_rest(model)
    read_all_mail(model)
    check_now(model)
    stats = simulation.stats()
    assert stats.slots_taken == 0, f"G1: {stats.slots_taken} slots never came back"
    assert stats.unwritten == 0, f"G3: {stats.unwritten} commits were never written"
    assert stats.waiting == 0, f"G4: at rest, {stats.waiting} turns wait"
    assert stats.resident <= model.residents, f"G4: {stats.resident} residents at rest"
    assert not +EXECUTING.now, f"G1: at rest, {EXECUTING.now} execute"
    for info in simulation.list():
        assert info.status in ("idle", "failed"), f"G2: {info} at rest"
    runs_have_ended(model)
    states_are_what_was_completed(model)
    for reader in model.readers:
        reader.check(_readable(model, reader.under), all_of_them=True)
    EXECUTING.houses_die = False  # nobody hears of it any more


def come_to_rest(model: Model) -> None:
    """Interrupt what hangs, and nothing else: then whatever waited for a slot or for room must go on.

    What kills the process has to come to its end as well.
    """
    simulation = model.simulation
    for _ in range(MOST_ROUNDS):
        model.attempt(simulation.run_until_idle)
        if not simulation.is_up:
            model.reopen()
            continue
        model.look()
        untold = [run for run in model.spec.runs.values() if run.must_end and run.outcome is None]
        # of a deleted agent nobody may have been told: its events went with it
        going_on = [run for run in untold if not model.spec.may_be_erased(run.path)]
        assert not going_on, f"G2: interrupted, and not ended: {going_on}"
        stats, at_work = simulation.stats(), (EXECUTING.begun, +EXECUTING.now)
        assert stats.running == len(EXECUTING.begun), f"G1: {stats.running} running, by {at_work}"
        assert stats.slots_taken == EXECUTING.now.total(), f"G1: {stats.slots_taken} slots, by {at_work}"
        if not stats.running:
            assert not stats.queued, f"G4: nothing runs, and {stats.queued} runs wait for ever"
            return
        hanging = dict(EXECUTING.hanging)
        if not hanging and model.spec.hangs:  # a fault had it hang: which one, nobody was told
            under_way = [i for i in simulation.list() if i.status in ("running", "waiting")]
            hanging = {info.path: "" for info in under_way}
        assert hanging, f"G2: {stats.running} turns run for ever, and none of them hangs"
        for path, run_id in sorted(hanging.items()):
            model.spec.may_interrupt(path, run_id=run_id or None)
            model.attempt(partial(simulation.agent(path).interrupt, run_id or None))
            if not simulation.is_up:
                break
    raise AssertionError("G2: it does not come to rest")


def read_all_mail(model: Model) -> None:
    """One more run of each agent, which reads what it was sent; a house is asked until it opens."""
    for life in model.spec.open():
        for _ in range(4):
            if life.is_open and unread(model, life.path):
                model.followups([(life.path, Script())])
                come_to_rest(model)
    for life in model.spec.open():
        if life.is_open:
            mail = model.simulation.agent(life.path).state()["mail"]
            lost = [text for text in life.mail if mail.count(text) != 1]
            assert not lost or (unread(model, life.path) and life.kind == "model.house"), (
                f"G3: {life} was sent {lost}, and has read {mail}"
            )


def unread(model: Model, path: str) -> int:
    return model.simulation.agent(path).info().inbox


def runs_have_ended(model: Model) -> None:
    spec, events = model.spec, model.witness.events.values()
    accepted = {event.run_id: event.path for event in events if event.type == "run.accepted"}
    ended = {event.run_id for event in events if event.type in TERMINAL}
    open_ = {
        run_id for run_id, path in accepted.items() if run_id not in ended and not spec.may_be_erased(path)
    }
    assert not open_ or spec.prunes, f"G2: without an outcome: {open_}"
    afters = Counter(event.data.get("after") for event in events if event.type == "run.accepted")
    for run in spec.runs.values():
        if spec.may_be_erased(run.path):
            continue
        if run.outcome is None and spec.ends_may_be_old and not outcome_of(model, run.run_id):
            continue  # its end was past its time when it could be written at last
        assert run.outcome is not None, f"G3: {run} was accepted and forgotten"
        try:
            outcome = model.simulation.run(run.run_id).outcome()
        except RunNotFound:
            assert spec.may_be_pruned(run, model.now), f"G3: {run} is not known any more"
            continue
        assert outcome.status == run.outcome, f"G2: {run} and {outcome}"
        if outcome.status == "completed":
            assert outcome.result == run.run_id, f"G2: {run} has come to {outcome}"
            expected = int(run.script.after)
            assert afters[run.run_id] == expected or spec.prunes, (
                f"G2: {run} has {afters[run.run_id]} continuations"
            )


def outcome_of(model: Model, run_id: str) -> bool:
    """Whether a run is kept of whose end no event is kept; its outcome is told to the specification."""
    try:
        end = model.simulation.run(run_id).outcome()
    except RunNotFound:
        return False
    model.spec.ended(run_id, end.status, end.error, model.spec.level, end.ended_at)
    return True


def states_are_what_was_completed(model: Model) -> None:
    """G3: each completed run is in its agent's state, once and in order; each message is read or unread."""
    done, mail = histories(model)
    for info in model.simulation.list():
        state = model.simulation.agent(info.path).state()
        has_done, read = state["done"], state["mail"]
        again = model.spec.given_again
        twice = [run_id for run_id, times in Counter(has_done).items() if times > 1 + again[run_id]]
        assert not twice, f"G3: {info.path} has done twice: {has_done}"
        assert len(read) == len(set(read)), f"G3: {info.path} read a message twice: {read}"
        if model.spec.prunes:  # what nobody looked at in time may be gone
            told = [run_id for run_id in done[info.path] if not again[run_id]]
            seen = [run_id for run_id in has_done if run_id in set(told)]
            assert seen == told, f"G3: {info.path} has done {has_done}, and not {told}"
            continue
        assert has_done == done[info.path], f"G3: {info.path} has done {has_done}, not {done[info.path]}"
        had = mail[info.path]
        may_be_gone = sum(model.spec.may_be_erased(sender) for sender in had if sender is not None)
        assert len(had) - may_be_gone <= len(read) + info.inbox <= len(had), (
            f"G3: {info.path} has {len(had)} messages and read {read}, {info.inbox} are unread"
        )


def histories(model: Model) -> tuple[dict[str, list[str]], dict[str, list[str | None]]]:
    """What the events say: by path, the runs that its agent completed, and who sent it mail."""
    done: dict[str, list[str]] = defaultdict(list)
    mail: dict[str, list[str | None]] = defaultdict(list)
    for _, event in sorted(model.witness.events.items()):
        if event.type == "agent.spawned":
            done[event.path], mail[event.path] = [], []
        elif event.type == "run.completed":
            done[event.path].append(str(event.run_id))
        elif event.type == "message.accepted":
            mail[event.path].append(event.data.get("sender"))
    return done, mail
