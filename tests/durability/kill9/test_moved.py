"""A store that is moved away under a worker that is killed then or later: the audit sees what is wrong."""

from pathlib import Path

import pytest

from .trial import KILLS, SEED, Death, Trial

pytestmark = pytest.mark.timeout(1800 + 150 * KILLS)


def test_a_store_that_is_written_on_while_it_is_away_is_found(tmp_path: Path) -> None:
    deaths = [Death("moved", 60.0, move="file")]
    trial = Trial(tmp_path, SEED, 1, deaths=deaths, plant="--forgets").live()
    found = [finding.what for finding in trial.found if finding.check == "accepted"]
    assert any("was acknowledged while the store was moved away" in what for what in found)


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("move", ["file", "all files", "for a copy"])
def test_whichever_way_it_is_moved_nothing_is_lost(tmp_path: Path, move: str, back: bool) -> None:
    deaths = [Death("moved", 0.3, move=move, back=back)] * 2
    trial = Trial(tmp_path, SEED, 2, deaths=deaths).live()
    assert trial.found == {}
