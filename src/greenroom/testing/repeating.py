"""How somebody repeats a simulation that failed: the command, as it can be pasted into a shell."""

import os
import shlex
import sys

SEED = "GREENROOM_SEED"
"""In the environment: the one seed that `explore` tells its story to."""


def this_command() -> str:
    """The command that runs this process's code once more, or its test that is under way."""
    test, _, _ = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")
    return shlex.join(["pytest", test] if test else sys.orig_argv)


def with_seed(seed: int) -> str:
    """The same for `explore`, with this seed alone."""
    return f"{SEED}={seed} {this_command()}"


def seed_wanted() -> int | None:
    """The seed that the environment names. Raises `ValueError`."""
    value = os.environ.get(SEED)
    if not value:
        return None
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{SEED}={value} in the environment is no seed: a seed is an int") from None
