"""A turn begun again asks for something else than what its run has recorded: what is told of that."""

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ...errors import GreenroomError
from ...persistence import chunked_pickle
from ...persistence.comparing import difference
from ...stored_text import storable_text
from ...types import Payload
from .threads import thread_limiter


class Divergence(Struct, frozen=True):
    """A repeated request of a turn, and where it differs; the data of `run.diverged`."""

    what: str  # "run", "agent"
    name: str  # its name within the run: a path
    key: str | int | None
    count: int | None  # the how-manieth call under that name, if there was no key
    found: str  # what stands: a run's id, an agent's path
    differs: str  # "input", "kind", "config"
    difference: str

    def encoded(self) -> bytes:
        """As JSON."""
        key = storable_text(self.key) if isinstance(self.key, str) else self.key
        return msgspec.json.encode(replace(self, key=key, difference=storable_text(self.difference)))

    def text(self, run_id: str, path: str) -> str:
        """For the log."""
        which = f" {self.key!r}" if self.key is not None else f" {self.count}" if self.count else ""
        return (
            f"run {run_id} of {path} asks again for the {self.what}{which} at {self.name}, with another "
            f"{self.differs}: {self.difference}. The recorded one stands ({self.found}). Code that a crash "
            "may begin again has to ask for the same again: keep times and answers of models out of it, or "
            "in turn.state behind a checkpoint()."
        )

    def error(self, run_id: str, path: str) -> GreenroomError:
        """For a simulation, where the run fails of it."""
        return GreenroomError(self.text(run_id, path))


async def compared(recorded: Payload, given: Payload) -> str | None:
    """Where two values differ, see `difference`; found on a thread if they are large."""
    if recorded == given:
        return None
    if max(len(recorded), len(given)) > chunked_pickle.LARGE:
        return await thread_limiter().run(lambda: difference(recorded, given), "compare")
    return difference(recorded, given)
