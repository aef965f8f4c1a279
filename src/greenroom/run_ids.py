"""The ids of runs that the runtime makes itself, and the ids that callers may choose.

An id of the runtime's begins with `run-`, which no caller's may, and goes on with the random name of its
store. It never comes again. An ordinary one has the number of the store's opening and the run's serial. The
id of what a turn starts is derived from a *stem*, which names the run that starts it. A run's own id is no
part of its stem: a caller may give that id again once retention has dropped the run. See decision 0027.
"""

from base64 import b32encode
from hashlib import blake2b

from .types import RunId, Timestamp

RESERVED = "run-"
"""The prefix of the runtime's own ids."""

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def is_reserved(run_id: str) -> bool:
    """Whether this id is, or could be, one of the runtime's own."""
    return run_id.startswith(RESERVED)


def plain_id(nonce: str, epoch: int, serial: int) -> RunId:
    """An id for a run that was accepted without one.

    The epoch is on disk before an opening's first run. The serial may not be: a crash gives it to others.
    """
    return RunId(f"{RESERVED}{nonce}-{_short(epoch)}-{_short(serial)}")


def stem_of(nonce: str, serial: int, accepted_at: Timestamp) -> str:
    """The stem of the ids of all that a run starts, however often its turn begins.

    A serial that a crash took comes again, with another time.
    """
    return f"{nonce}.{_short(serial)}.{accepted_at!r}"


def derived_id(stem: str, *identity: str) -> RunId:
    """The id of what a run starts, by its identity within that run."""
    name = "".join(f"{len(part)}:{part}" for part in (stem, *identity)).encode("utf-8", "surrogatepass")
    digest = b32encode(blake2b(name, digest_size=10).digest()).decode().lower()
    return RunId(f"{RESERVED}{stem.partition('.')[0]}-{digest}")


def _short(number: int) -> str:
    """A number from 0 on in base 36."""
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = DIGITS[digit] + text
        if not number:
            return text
