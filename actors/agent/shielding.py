"""Waiting under anyio's cancel scopes."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("greenroom")


@contextmanager
def shielded() -> Iterator[None]:
    """A block that anyio's cancel scopes around it leave alone until it is over.

    They cancel a task at every turn of the loop until it has left them: one that cannot leave yet would
    keep the loop spinning. asyncio's own cancellations come once, and come here as well.
    """
    anyio = sys.modules.get("anyio")
    if anyio is None:
        yield
        return
    scope = anyio.CancelScope(shield=True)
    scope.__enter__()
    try:
        yield
    except GeneratorExit:  # thrown away with its loop: there is no task that could leave the scope
        raise
    except BaseException as error:
        scope.__exit__(type(error), error, error.__traceback__)
        raise
    scope.__exit__(None, None, None)
