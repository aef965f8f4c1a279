"""The input, state and messages that a turn begins with."""

from typing import Any

from msgspec import Struct

from ...errors import SnapshotUnreadable
from ...persistence.codec import loads
from ...persistence.rows import MessageRow, RunRow
from ...persistence.value_errors import Unreadable
from ...types import Payload
from ..models import Message, Outcome, weight_of_messages, weight_of_run
from .aside import made


class Given(Struct):
    """The beginning of a turn: copies, of its own."""

    input: Any
    config: Any
    inbox: list[Message]
    results: list[Outcome]

    @classmethod
    async def read(
        cls, run: RunRow, config: Payload, inbox: tuple[MessageRow, ...], results: tuple[RunRow, ...]
    ) -> "Given":
        """Make it of what is stored. Raises `SnapshotUnreadable`."""

        def make() -> Given:
            return cls(
                _given(run.input, f"input of run {run.run_id}", run.path),
                _given(config, "config", run.path),
                [Message.of(message) for message in inbox],
                [Outcome.of(result) for result in results],
            )

        weight = len(run.input) + len(config)
        if inbox or results:
            weight += weight_of_messages(inbox) + sum(map(weight_of_run, results))
        return await made(weight, make, f"read for {run.path}")


def _given(payload: Payload, what: str, path: str) -> Any:
    try:
        return loads(payload)
    except Unreadable as error:
        raise SnapshotUnreadable.of_value(what, path, str(error)) from error
