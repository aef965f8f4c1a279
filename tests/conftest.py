"""For all tests: nothing may depend on how busy the machine is, or on how they were started."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from .progress import tell_progress

settings.register_profile("greenroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("greenroom")

# Started in the background, or with nohup: what is ignored, programs inherit.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have it said how far the tests are, and at once which one failed."""
    tell_progress(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes none is to be left with a slow test when all others are done."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: "slow" not in item.keywords)
