"""How often somebody may ask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.server.rates import Rates


def test_a_burst_goes_through_and_then_the_rate() -> None:
    rates = Rates(10.0, 3.0)
    assert [rates.take("a", 100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert rates.take("a", 100.0) == pytest.approx(0.1)
    assert rates.take("a", 100.11) == 0.0
    assert rates.take("a", 100.11) > 0


def test_each_key_has_a_bucket_of_its_own() -> None:
    rates = Rates(1.0, 1.0)
    assert rates.take("a", 0.0) == 0.0
    assert rates.take("b", 0.0) == 0.0
    assert rates.take("a", 0.0) > 0.0


def test_memory_is_bounded_and_who_was_quiet_longest_is_forgotten() -> None:
    rates = Rates(1.0, 1.0, 2)
    for key in "abc":
        rates.take(key, 0.0)
    assert len(rates) == 2
    assert rates.take("a", 0.0) == 0.0
    assert rates.take("c", 0.0) > 0.0


@given(st.lists(st.floats(0, 5), min_size=1, max_size=60), st.floats(0.5, 50), st.floats(1, 20))
def test_never_more_than_the_burst_and_what_the_rate_has_filled_since(
    pauses: list[float], rate: float, burst: float
) -> None:
    rates, now, taken = Rates(rate, burst), 0.0, 0
    for pause in pauses:
        now += pause
        taken += rates.take("a", now) == 0.0
        assert taken <= burst + rate * now + 1e-6


@given(st.floats(0.5, 50), st.floats(1, 20))
def test_who_waits_as_long_as_told_gets_through(rate: float, burst: float) -> None:
    rates = Rates(rate, burst)
    while not (after := rates.take("a", 0.0)):
        pass
    assert rates.take("a", after + 1e-9) == 0.0
