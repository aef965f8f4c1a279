"""Which agents a client reaches: those of its tree, and it cannot name any other.

A client says `researcher`, and means `/its-tree/researcher`: no name leads out of the tree. Without
`--tree` each client session has a tree of its own, whose name nobody can guess and which ends with the
session. Its name is signed with the store's key: trees that were left by a crash are known by that, and
no tree that somebody else called so is taken for one.
"""

import secrets
from hashlib import blake2b
from hmac import compare_digest

from msgspec import Struct

from ..errors import RunIdTaken
from ..paths import check_path
from ..run_ids import is_reserved

SESSION = "mcp-session-"
"""The names of sessions' trees begin like this."""


class Tree(Struct, frozen=True):
    """A tree. `passing` ones are there for one session and are closed with it."""

    name: str
    passing: bool

    @property
    def path(self) -> str:
        return f"/{self.name}"

    def path_of(self, agent: str) -> str:
        """The path of the agent with this name. Raises `InvalidPath`."""
        return check_path(f"/{self.name}/{agent}")

    def name_of(self, path: str) -> str:
        """The client's name for the agent at `path`."""
        return path.removeprefix(f"/{self.name}/")

    def run_id_of(self, named: str | None) -> str | None:
        """The run id for one that a client chose: clients of two trees may choose the same.

        Raises `RunIdTaken` for an id that could be the runtime's own.
        """
        if named is None:
            return None
        if is_reserved(named):
            raise RunIdTaken.reserved(named)
        return self._chosen + named

    @property
    def _chosen(self) -> str:
        """The prefix of the ids of clients, of a tree `run-1` as well: never as the runtime's own do."""
        return f"/{self.name}:" if is_reserved(self.name) else f"{self.name}:"

    def told(self, text: str) -> str:
        """`text` with names where it has paths of this tree: a client knows no others."""
        return text.replace(f"/{self.name}/", "").replace(self._chosen, "")


class Trees:
    """The tree of each session: the given one for all, or one each, signed with `key`."""

    def __init__(self, given: str | None, key: bytes = b"") -> None:
        if given is not None:
            check_path(f"/{given}")
        self._given = given
        self._secret = secrets.token_bytes(32)
        self.key = key or secrets.token_bytes(32)

    @property
    def shared(self) -> bool:
        """Whether all sessions have the same tree."""
        return self._given is not None

    def of(self, session: str) -> Tree:
        """The tree of the session with this id; the id is known to its client alone, and stays so."""
        if self._given is not None:
            return Tree(self._given, passing=False)
        digest = blake2b(session.encode(), key=self._secret, digest_size=12).hexdigest()
        return Tree(self._signed(digest), passing=True)

    def made(self, name: str) -> bool:
        """Whether the tree with this name was made for a session, on this store."""
        digest = name.removeprefix(SESSION).partition("-")[0]
        return digest.isascii() and compare_digest(name, self._signed(digest))

    def _signed(self, digest: str) -> str:
        seal = blake2b(digest.encode(), key=self.key, digest_size=12, person=b"greenroom mcp").hexdigest()
        return f"{SESSION}{digest}-{seal}"
