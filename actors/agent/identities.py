"""The names under which a turn starts things, and which of them mean the same thing when it begins again.

Each thing that a run starts has an identity within it: what it is, its name, and the `key=` that the code
gave, or else the how-manieth call under that name it is. Where a count could mean two things after a crash,
`KeyNeeded` is raised at the call, the first time that the code is executed. See decision 0027.
"""

from msgspec import Struct

from ...borders import plain, plain_int, type_name
from ...errors import KeyNeeded

MOST_KEY = 200
"""Characters of a key."""

TWO_SIDES = "its turn uses the name both before and after a checkpoint"
TWO_TASKS = "more than one task or thread of its turn uses the name"
BEFORE = "it was asked for otherwise before a checkpoint of its turn"


class Identity(Struct, frozen=True):
    """The identity of a run that a run starts. `mark` is the key or the count, as text."""

    what: str
    name: str
    mark: str
    key: str | int | None  # as it was given
    count: int | None  # if no key was
    repeated: bool = False  # this turn has used it before: a key given twice


class _Use(Struct):
    """How a name was used without a key, so far."""

    caller: object  # the task or thread; kept, so that no other one can look like it
    section: int
    count: int = 0


class Identities:
    """Calls of one turn in, the identities of what they ask for out."""

    def __init__(self, run_id: str, path: str) -> None:
        self._run_id, self._path = run_id, path
        self._uses: dict[tuple[str, str], _Use] = {}
        self._keys: set[tuple[str, str, str]] = set()
        self._section = 0  # how often a checkpoint began or had its state

    @property
    def counts(self) -> bool:
        """Whether a name was used without a key."""
        return bool(self._uses)

    def divide(self) -> None:
        """Calls from here on come after a checkpoint, and those so far before it.

        While the state is being stored, calls may be on either side: it divides when that begins and ends.
        """
        self._section += 1

    def take(self, what: str, name: str, key: object, caller: object) -> Identity:
        """The identity of a call that is made now. Raises `KeyNeeded`, and then nothing was counted."""
        if key is not None:
            return self._keyed(what, name, key)
        use = self._uses.setdefault((what, name), _Use(caller, self._section))
        if use.caller is not caller:
            raise self.needed(what, name, TWO_TASKS)
        if use.section != self._section:
            raise self.needed(what, name, TWO_SIDES)
        use.count += 1
        return Identity(what, name, f"#{use.count}", None, use.count)

    def _keyed(self, what: str, name: str, key: object) -> Identity:
        checked = checked_key(key)
        mark = f"{'int' if isinstance(checked, int) else 'str'} {checked}"
        repeated = (what, name, mark) in self._keys
        self._keys.add((what, name, mark))
        return Identity(what, name, mark, checked, None, repeated)

    def needed(self, what: str, name: str, why: str) -> KeyNeeded:
        """The error for a name that needs keys."""
        return KeyNeeded(self._run_id, self._path, what, name, why)


def checked_key(key: object) -> str | int:
    """`key` as a plain value, or what is wrong with it."""
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise TypeError(f"key= is a str or an int, not {type_name(key)}")
    copy = plain(key) if isinstance(key, str) else plain_int(key)
    if not 1 <= len(str(copy)) <= MOST_KEY:
        raise ValueError(f"key= has 1 to {MOST_KEY} characters, not {len(str(copy))}")
    return copy
