"""A check: a function that looks for one broken promise, and the words around it."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from msgspec import Struct

from .inspection import Inspection
from .report import Severity

BACKUP = "Put back a backup of the store."


class CheckProblem(Struct, frozen=True):
    """Something found that differs from its check's usual: None stands for what the check says."""

    what: str
    severity: Severity | None = None
    advice: str | None = None
    repairable: bool | None = None


Find: TypeAlias = Callable[[Inspection], Iterable[CheckProblem | str]]


class Check(Struct, frozen=True):
    """One promise, and how to see that it is broken."""

    name: str
    promise: str
    find: Find
    advice: str
    severity: Severity = "error"
    repairable: bool = False
    deep: bool = False  # reads every value: not done in a quick examination


def check(
    name: str,
    promise: str,
    *,
    advice: str,
    severity: Severity = "error",
    repairable: bool = False,
    deep: bool = False,
) -> Callable[[Find], Check]:
    """Make a check of a function that yields what is wrong, a sentence for each."""

    def make(find: Find) -> Check:
        return Check(name, promise, find, advice, severity, repairable, deep)

    return make
