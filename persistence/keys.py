"""The key beside a store, and the seal that every stored value carries.

Unpickling executes what the bytes say, so only bytes that this store wrote are ever unpickled. The seal
is a BLAKE2b signature with a key that lies beside the store and not in it: who can alter the database
(a backup put back, a file sent by somebody) but does not have the key cannot make agents execute
anything. A seal holds for one place only (a column of one agent or run, with codec and version), so a
genuine value cannot be moved elsewhere. It cannot tell that a value was put back to an *older* one of
the same place.
"""

import os
import secrets
import stat
from hashlib import blake2b
from hmac import compare_digest
from typing import TypeAlias

import msgspec

from ..actors.errors import SnapshotTampered, StoreError

SEAL_SIZE = 16
KEY_SIZE = 32

Place: TypeAlias = tuple[str | int, ...]
"""Where a value stands: its column, whose it is, and how it is to be read."""

_place = msgspec.msgpack.Encoder().encode


class Sealer:
    """Seals what goes to the disk, and opens what comes back."""

    def __init__(self, key: bytes) -> None:
        self._keyed = blake2b(key=key, digest_size=SEAL_SIZE, person=b"greenroom seal 1")

    def seal(self, data: bytes, place: Place) -> bytes:
        return self._sign(data, place) + data

    def open(self, sealed: object, place: Place, path: str) -> bytes:
        """The bytes that were sealed for `place`, else `SnapshotTampered` about the agent at `path`."""
        if not isinstance(sealed, bytes) or len(sealed) < SEAL_SIZE:
            raise SnapshotTampered(path, f"{place[0]} has no signature")
        data = sealed[SEAL_SIZE:]
        if not compare_digest(sealed[:SEAL_SIZE], self._sign(data, place)):
            raise SnapshotTampered(path, f"{place[0]} does not carry this store's signature")
        return data

    def _sign(self, data: bytes, place: Place) -> bytes:
        signature = self._keyed.copy()
        signature.update(_place(place))  # msgpack ends where it ends: no other place and data join so
        signature.update(data)
        return signature.digest()


def key_path(store: str) -> str:
    return f"{store}.key"


def read_key(store: str) -> bytes:
    """The key of `store`; `FileNotFoundError` if it has none yet."""
    path = key_path(store)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:  # ELOOP: a symbolic link
        raise StoreError(
            store, f"its key file {path} cannot be read: {error.strerror}. It must be a plain file."
        ) from error
    with open(descriptor, "rb") as file:
        key = file.read(KEY_SIZE + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    if len(key) != KEY_SIZE:
        raise StoreError(
            store, f"{path} is no key: it must be a file of {KEY_SIZE} bytes. Put the right one back."
        )
    return key


def make_key(store: str) -> bytes:
    """The key of `store`, made if there is none. Two that make it at once get the same one."""
    try:
        return read_key(store)
    except FileNotFoundError:
        pass  # the first use
    path = key_path(store)
    draft = f"{path}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            _write_key(descriptor)
            os.link(draft, path)  # appears whole or not at all, and never takes another's place
        except FileExistsError:
            pass  # somebody was faster
        finally:
            os.unlink(draft)
        _sync_folder(path)
    except OSError as error:
        raise StoreError(
            store,
            f"its key {path} cannot be made: {error.strerror}. "
            "Choose a folder that this user may write to.",
        ) from error
    return read_key(store)


def _write_key(descriptor: int) -> None:
    with open(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_SIZE))
        file.flush()
        os.fsync(descriptor)


def _sync_folder(path: str) -> None:
    """A key that a power cut takes away makes everything signed with it unreadable."""
    descriptor = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
