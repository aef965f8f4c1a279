"""The advice when a command needs an extra that is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

import click


class MissingExtra(click.ClickException):
    """The command needs libraries that the base install leaves out."""


@contextmanager
def needs(extra: str, *modules: str) -> Iterator[None]:
    """A block that imports what is only there with `greenroom[extra]`, which is `modules`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in modules:
            raise  # something else is missing, and that is no matter of extras
        raise MissingExtra(
            f"this needs {error.name}, which is not installed: pip install 'greenroom[{extra}]'"
        ) from error
