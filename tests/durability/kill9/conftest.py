"""One trial for all tests of this folder."""

import pytest

from .trial import KILLS, SEED, Trial


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """One store after all its deaths."""
    folder = tmp_path_factory.mktemp("trial")
    print(f"GREENROOM_KILLS={KILLS} GREENROOM_SEED={SEED} in {folder}")
    return Trial(folder, SEED, KILLS).live()
