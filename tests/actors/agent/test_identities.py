"""Identities of what a turn starts, against a naive model of the rule; and the ids made of them."""

from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import KeyNeeded
from greenroom.actors.agent.identities import Identities
from greenroom.run_ids import derived_id, is_reserved, plain_id, stem_of

names = st.sampled_from(["/t/a", "/t/b"])
keys = st.none() | st.sampled_from(["1", "#1", "2"]) | st.integers(1, 2)
calls = st.tuples(names, keys, st.sampled_from(["main", "branch"]))
programs = st.lists(calls | st.just("checkpoint"), max_size=12)


def identities_of(program: list[object]) -> list[Hashable]:
    """One for each call, "needs a key" where it was refused, and what was used."""
    identities, told = Identities("r", "/t/x"), list[Hashable]()
    for step in program:
        if step == "checkpoint":
            identities.divide()
            identities.divide()
            continue
        name, key, task = step  # type: ignore[misc]
        try:
            found = identities.take("run", name, key, task)
        except KeyNeeded:
            told.append("needs a key")
        else:
            told.append((found.what, found.name, found.mark))
    return told


@given(programs)
def test_a_count_is_used_where_it_can_mean_one_thing_only(program: list[object]) -> None:
    uses: dict[str, list[tuple[object, int]]] = {}
    section, expected = 0, list[Hashable]()
    for step in program:
        if step == "checkpoint":
            section += 1
            continue
        name, key, task = step  # type: ignore[misc]
        if key is not None:
            expected.append((name, type(key), key))
            continue
        before = uses.setdefault(name, [])
        if all(use == (task, section) for use in before):
            before.append((task, section))
            expected.append((name, len(before)))
        else:
            expected.append("needs a key")
    told = identities_of(program)
    assert [one == "needs a key" for one in told] == [one == "needs a key" for one in expected]
    pairs = {(one, other) for one, other in zip(told, expected, strict=True)}
    assert len(pairs) == len(set(told)) == len(set(expected)), "as many identities as things that are meant"


def test_calls_while_the_state_is_stored_may_be_on_either_side() -> None:
    for first, second in ((0, 1), (1, 2), (0, 2)):
        identities = Identities("r", "/t/x")
        for divided in range(3):
            if divided == first:
                identities.take("run", "/t/a", None, "main")
            if divided == second:
                with pytest.raises(KeyNeeded, match="both before and after a checkpoint"):
                    identities.take("run", "/t/a", None, "main")
            identities.divide()


def test_what_it_is_belongs_to_the_identity() -> None:
    identities = Identities("r", "/t/x")
    run, step = (identities.take(what, "x", None, "main") for what in ("run", "step"))
    assert (run.count, step.count) == (1, 1)
    assert run != step


def test_a_key_used_before_is_said_to_be_repeated() -> None:
    identities = Identities("r", "/t/x")
    assert not identities.take("run", "x", "k", "main").repeated
    assert not identities.take("run", "y", "k", "main").repeated
    assert identities.take("run", "x", "k", "branch").repeated
    assert not identities.counts


texts = st.text(max_size=5)


@given(st.lists(texts, max_size=3), st.lists(texts, max_size=3))
def test_ids_differ_where_identities_do(one: list[str], other: list[str]) -> None:
    stem = stem_of("abc", 7, 1.5)
    assert (derived_id(stem, *one) == derived_id(stem, *other)) == (one == other)


numbers = st.integers(0, 2**40)


@given(st.lists(st.tuples(numbers, numbers), unique=True, min_size=2, max_size=2))
def test_ids_of_other_openings_and_serials_differ(pair: list[tuple[int, int]]) -> None:
    (epoch, serial), (other_epoch, other_serial) = pair
    assert plain_id("abc", epoch, serial) != plain_id("abc", other_epoch, other_serial)
    one, other = stem_of("abc", serial, float(epoch)), stem_of("abc", other_serial, float(other_epoch))
    assert derived_id(one, "run", "x") != derived_id(other, "run", "x")


def test_ids_say_whose_they_are() -> None:
    derived = derived_id(stem_of("0a1b2c", 7, 1.5), "run", "/t/a", "#1")
    plain = plain_id("0a1b2c", 1, 36)
    assert plain == "run-0a1b2c-1-10"
    assert derived.startswith("run-0a1b2c-")
    assert derived.count("-") == 2 != plain.count("-")
    assert all(map(is_reserved, (plain, derived, "run-")))
    assert not any(map(is_reserved, ("run", "Run-1", "order-run-1", "")))
