"""The pytest plugin: the fixture `simulation`, and how a failure in it is told and repeated.

A test with the fixture is run once for each of `--greenroom-seeds` seeds, or with the one that
`--greenroom-seed` names. `@pytest.mark.greenroom(seeds=…, slots=…, faults=…)` says otherwise for one test.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .simulation import Simulation

SEEDS = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options."""
    group = parser.getgroup("greenroom")
    group.addoption(
        "--greenroom-seeds",
        type=int,
        default=None,
        help=f"how many simulations each test with one is run in (default: {SEEDS}, or what it says)",
    )
    group.addoption(
        "--greenroom-seed", type=int, default=None, help="the seed of the one simulation to repeat"
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line(
        "markers", "greenroom(seeds=20, **settings): how the simulations of this test are made"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each seed."""
    if "simulation" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("greenroom")
    settings = dict(marker.kwargs) if marker else {}
    count = metafunc.config.getoption("greenroom_seeds") or settings.get("seeds", SEEDS)
    one = metafunc.config.getoption("greenroom_seed")
    seeds = list(range(count)) if one is None else [one]
    metafunc.parametrize("simulation", seeds, indirect=True, ids=[f"seed={seed}" for seed in seeds])


@pytest.fixture
def simulation(request: pytest.FixtureRequest) -> Iterator["Simulation"]:
    """A simulation that is up, with a seed of this test's."""
    from .simulation import Simulation

    marker = request.node.get_closest_marker("greenroom")
    settings = {k: v for k, v in marker.kwargs.items() if k != "seeds"} if marker else {}
    with Simulation(seed=request.param, **settings) as simulation:
        yield simulation


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Under a failure: the end of the trace, and how to repeat it."""
    report = yield
    simulation: Any = getattr(item, "funcargs", {}).get("simulation")
    if call.when == "call" and report.failed and hasattr(simulation, "trace"):
        test = item.nodeid.partition("[")[0]
        again = f"To repeat it: pytest '{test}' --greenroom-seed={simulation.seed}"
        report.sections.append(("simulation", f"{again}\n{simulation.trace(last=40)}"))
        simulation.crash()  # closing it would only hide what failed
    return report
