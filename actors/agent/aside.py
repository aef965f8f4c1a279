"""Users' values as bytes and back on the loop: small ones at once, large ones on other threads.

A value that is encoded aside is read twice, and counts if both readings agree, as with states (see
`states`). If they do not, somebody goes on changing the value, and it is encoded on the loop, in one call.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...persistence import chunked_pickle
from ...persistence.chunked_pickle import Changed
from ...persistence.codec import dumps_at_once, dumps_in_pieces, dumps_small
from ...persistence.rows import RunRow
from ...types import Payload
from ..ledger.descriptions import LiveAgent
from ..models import AgentInfo, AgentInfos, Outcome, Outcomes, weight_of_agent, weight_of_run
from .threads import thread_limiter

Made = TypeVar("Made")


class Encoding:
    """A value on its way to bytes, of which a small one has been made already."""

    __slots__ = ("_data", "_value", "_what")

    def __init__(self, value: object, what: str) -> None:
        """Raises `CannotStore`; `what` names the value in it."""
        self._data = dumps_small(value, what)
        self._value, self._what = (value, what) if self._data is None else (None, "")

    async def done(self) -> Payload:
        """The bytes. Raises `CannotStore`."""
        if self._data is None:
            value, what = self._value, self._what
            try:
                self._data = await thread_limiter().run(
                    lambda: dumps_in_pieces(value, what), f"store {what}"
                )
            except Changed:
                self._data = dumps_at_once(value, what)
            self._value = None
        return self._data


async def encoded(value: object, what: str) -> Payload:
    """The bytes of a value. Raises `CannotStore`."""
    return await Encoding(value, what).done()


async def made(weight: int, make: Callable[[], Made], name: str) -> Made:
    """The result of `make`, on a thread if so many bytes of users' values take long."""
    if weight <= chunked_pickle.LARGE:
        return make()
    made_aside: Any = await thread_limiter().run(make, name)
    return made_aside  # type: ignore[no-any-return]


async def outcomes_of(runs: Sequence[RunRow]) -> Outcomes:
    """How these runs ended."""
    return await made(sum(map(weight_of_run, runs)), lambda: [*map(Outcome.of, runs)], "read results")


async def infos_of(agents: Sequence[LiveAgent]) -> AgentInfos:
    """These agents as people see them."""
    return await made(
        sum(map(weight_of_agent, agents)), lambda: [*map(AgentInfo.of, agents)], "read agents"
    )
