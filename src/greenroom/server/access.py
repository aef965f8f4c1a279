"""Access rights: one token for everything, and tokens for one tree that are derived from it.

A tree's token is the tree's name and a signature with the main token. So nothing is stored for it, and its
holder cannot make another. Removing the main token's file makes all of them worthless. Plain values: the
file is the command's business.
"""

import re
from base64 import urlsafe_b64encode
from hashlib import blake2b
from hmac import compare_digest

from msgspec import Struct
from msgspec.structs import replace

from .. import Explanation
from ..paths import check_path, check_under, is_under
from .problems import OutOfReach

PREFIX = "tree."
"""The prefix of a tree's token."""


class Access(Struct, frozen=True):
    """The part of the tree that a request may reach: all agents, or those of one tree."""

    tree: str | None = None

    @property
    def name(self) -> str:
        """The key under which requests are counted together."""
        return self.tree or "/"

    def reaches(self, path: str) -> bool:
        """Whether an agent's path is within reach."""
        return self.tree is None or is_under(path, f"/{self.tree}")

    def agent(self, path: str) -> str:
        """`path` if it is one and within reach; else `InvalidPath`, `OutOfReach`."""
        if not self.reaches(check_path(path)):
            raise OutOfReach(path, self.tree or "")
        return path

    def under(self, path: str) -> str:
        """The path to list: "/" means all that is within reach."""
        if check_under(path) == "/":
            return "/" if self.tree is None else f"/{self.tree}"
        return self.agent(path)

    def everything(self) -> None:
        """Raise unless all agents are within reach."""
        if self.tree is not None:
            raise OutOfReach("/", self.tree)

    def seen(self, explanation: Explanation) -> Explanation:
        """The explanation without paths that are out of reach; `place` counts all that wait."""
        held = explanation.held_by
        hidden = [path for path in held if path.startswith("/") and not self.reaches(path)]
        if not hidden:
            return explanation
        whole = "|".join(re.escape(path) for path in hidden)
        text = re.sub(rf"(?:{whole})(?![a-z0-9_/-])", "an agent of another tree", explanation.text)
        return replace(explanation, held_by=tuple(one for one in held if one not in hidden), text=text)


class Keyring:
    """The main token and what it opens; with None nobody needs a token."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def access(self, token: str | None) -> Access | None:
        """The part of the tree that `token` opens, or None. Takes the same time however wrong it is."""
        if self._token is None:
            return Access()
        if token is None or not token.isascii():
            return None
        if compare_digest(token, self._token):
            return Access()
        tree, dot, _ = token.removeprefix(PREFIX).partition(".")
        if dot and compare_digest(token, self.grant(tree)):
            return Access(tree)
        return None

    def grant(self, tree: str) -> str:
        """The token for one tree."""
        key = (self._token or "").encode()
        digest = blake2b(tree.encode(), key=blake2b(key).digest(), person=b"greenroom tree 1").digest()
        return f"{PREFIX}{tree}.{_text(digest[:32])}"


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
