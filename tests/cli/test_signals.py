"""Being told to stop, wherever the main thread is at that moment."""

import signal

import pytest

from greenroom.cli.signals import Stopped, StopSignals


class Told:
    """Is told to stop while it is thrown away."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_comes_in_a_finaliser_is_not_lost() -> None:
    with StopSignals() as signals:
        signals.check()
        Told()  # Python drops what is raised there
        with pytest.raises(Stopped):
            signals.check()


def test_a_stop_is_raised_where_the_command_is() -> None:
    with StopSignals(), pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)
