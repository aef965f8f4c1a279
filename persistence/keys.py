"""The key beside a store, and the seal that every stored value carries.

Unpickling executes what the bytes say, so only bytes that this store wrote are ever unpickled. The seal is
a BLAKE2b signature with a key that lies beside the store and not in it: who can alter the database (a
backup put back, a file sent by somebody) but does not have the key cannot make agents execute anything. A
seal holds for one place only, and a place is all that says whose the value is and who acts on it: an
agent's config is bound to its path and kind, a run's input to its agent and the awaited runs, a result to
its status. So neither a value nor the row around it can be moved elsewhere (see docs/decisions/0041). A
seal cannot tell that a row was put back to an *older* one, or removed.
"""

import os
import re
import secrets
import stat
from hashlib import blake2b
from hmac import compare_digest
from typing import TypeAlias

import msgspec

from ..errors import SnapshotTampered, StoreError

SEAL_SIZE = 16
KEY_SIZE = 32
DRAFT = 8
"""Random bytes in the name of a key that is being made."""

ColumnPlace: TypeAlias = tuple[str | int | float | None, ...]
"""Where a value stands: its column, whose it is, and how it is to be read."""


class SignedColumns:
    """The place of each value, from the columns of its row as they are stored."""

    @staticmethod
    def config(
        agent_id: int, path: str, kind: str, version: int, origin: str | None, started_by: int | None
    ) -> ColumnPlace:
        return "config", agent_id, path, kind, version, origin, started_by

    @staticmethod
    def input(
        run_id: str,
        serial: int,
        agent_id: int,
        path: str,
        accepted_at: float,
        awaits: str | None,
        started_by: int | None,
        stem: str | None,
    ) -> ColumnPlace:
        at = float(accepted_at) if type(accepted_at) is int else accepted_at  # as it is read again
        return "input", run_id, serial, agent_id, path, at, awaits, started_by, stem

    @staticmethod
    def result(run_id: str, agent_id: int, status: str) -> ColumnPlace:
        return "result", run_id, agent_id, status

    @staticmethod
    def body(serial: int, agent_id: int, sender: str | None, sender_id: int | None) -> ColumnPlace:
        return "body", serial, agent_id, sender, sender_id

    @staticmethod
    def state(agent_id: int, codec: str, version: int) -> ColumnPlace:
        return "state", agent_id, codec, version


class UnboundColumns(SignedColumns):
    """Those of schema versions 1 and 2, which bound values to less of their rows."""

    @staticmethod
    def config(agent_id: int, *_: object) -> ColumnPlace:
        return "config", agent_id

    @staticmethod
    def input(run_id: str, *_: object) -> ColumnPlace:
        return "input", run_id

    @staticmethod
    def result(run_id: str, *_: object) -> ColumnPlace:
        return "result", run_id

    @staticmethod
    def body(serial: int, agent_id: int, *_: object) -> ColumnPlace:
        return "body", serial, agent_id


BOUND_SINCE = 3
"""The version of the schema from which on values are bound to the identity of their rows."""


def signed_columns_of(version: int) -> type[SignedColumns]:
    """The places that a store of this schema version has sealed its values for."""
    return SignedColumns if version >= BOUND_SINCE else UnboundColumns


_place = msgspec.msgpack.Encoder().encode


class Signer:
    """Seals what goes to the disk, and opens what comes back."""

    def __init__(self, key: bytes) -> None:
        self._keyed = blake2b(key=key, digest_size=SEAL_SIZE, person=b"greenroom seal 1")

    def seal(self, data: bytes, place: ColumnPlace) -> bytes:
        return self._sign(data, place) + data

    def open(self, sealed: object, place: ColumnPlace, path: str) -> bytes:
        """The bytes that were sealed for `place`, else `SnapshotTampered` about the agent at `path`."""
        if not isinstance(sealed, bytes) or len(sealed) < SEAL_SIZE:
            raise SnapshotTampered(path, f"{place[0]} has no signature")
        data = sealed[SEAL_SIZE:]
        if not compare_digest(sealed[:SEAL_SIZE], self._sign(data, place)):
            raise SnapshotTampered(path, f"{place[0]} does not carry this store's signature")
        return data

    def _sign(self, data: bytes, place: ColumnPlace) -> bytes:
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
    try:
        key = os.read(descriptor, KEY_SIZE + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)
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
    draft = f"{path}.{secrets.token_hex(DRAFT)}"
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


def drafts_of(path: str) -> int:
    """How many more names the key at `path` has from its making, which was cut off or goes on."""
    folder, name = os.path.split(os.path.abspath(path))
    mine = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{{2 * DRAFT}}}")
    return sum(
        os.path.samestat(os.lstat(path), entry.stat(follow_symlinks=False))
        for entry in os.scandir(folder)
        if mine.fullmatch(entry.name)
    )


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
