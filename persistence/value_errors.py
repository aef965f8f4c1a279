"""Why a value cannot be stored, or bytes cannot be read."""

import errno

from ..borders import error_text, is_a, type_name
from ..errors import CannotStore

LARGEST_VALUE_BYTES = 512 * 1024 * 1024
"""Bytes of one value. SQLite takes no more than 10**9, and a value that it refused would hold up the
transactions of everybody."""


class Unreadable(ValueError):
    """Bytes are genuine, but no value can be made of them here."""


def _remedy(error: BaseException) -> str:
    """Advice on a value that did not pickle."""
    if is_a(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "Close files that are not needed, or raise the limit of open files (ulimit -n)"
    if is_a(error, MemoryError):
        return CannotStore.SMALLER
    return CannotStore.PICKLE


def _describe(error: BaseException) -> str:
    text = error_text(error)
    if is_a(error, RecursionError) or "recursion" in text:
        return "it is nested too deeply"
    return f"{type_name(error)}: {text}" if text else type_name(error)
