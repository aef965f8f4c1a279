"""One live owner for each store.

The owner holds an advisory lock on a file beside the store, which the kernel takes back when the process
ends, however it ends; so a dead owner never has to be recognised, and a pid that now belongs to somebody
else cannot be mistaken for it. What the file says, host and pid, is for the message to the second one.
"""

import fcntl
import os
import socket
from contextlib import suppress

import msgspec

from ..actors.errors import StoreError, StoreInUse


class Owner(msgspec.Struct, frozen=True):
    """Who holds a store."""

    host: str
    pid: int


class Claim:
    """The lock on one store until `release`. Raises `StoreInUse` if somebody else has it."""

    def __init__(self, store: str) -> None:
        path = store + ".lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(store, f"its lock file cannot be opened: {error}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = self._owner()
            os.close(self._file)
            raise StoreInUse(
                store,
                f"process {owner.pid} on {owner.host} has it open. Use that one, or end it first",
            ) from None
        os.ftruncate(self._file, 0)
        os.write(self._file, msgspec.json.encode(Owner(socket.gethostname(), os.getpid())))

    def _owner(self) -> Owner:
        with suppress(msgspec.DecodeError, OSError):
            return msgspec.json.decode(os.pread(self._file, 1_000, 0), type=Owner)
        return Owner("an unknown host", 0)

    def release(self) -> None:
        """Give the store back. The file stays: removing it could remove somebody else's."""
        os.close(self._file)
