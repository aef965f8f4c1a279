"""Checks of the file itself: its pages, its schema, its key, its modes, the numbers in `meta`."""

import os
import re
import sqlite3
import stat
from collections.abc import Iterator

from .. import schema, schema_steps
from ..keys import key_path
from .check import BACKUP, CheckProblem, check
from .inspection import Inspection
from .parts import Parts, made_here

INDEX_IS_WRONG = re.compile(r"(?:missing from|wrong # of entries in) index (\w+)")
"""SQLite's findings on an index that can be built again from its table."""


@check(
    "pages",
    "SQLite can read every page, and every index holds exactly the rows of its table.",
    advice=f"{BACKUP} Without one, sqlite3's .recover saves what can still be read.",
)
def pages(store: Inspection) -> Iterator[CheckProblem | str]:
    try:
        for (line,) in store.rows(f"PRAGMA {'quick' if store.quick else 'integrity'}_check"):
            if INDEX_IS_WRONG.search(line):
                yield CheckProblem(line, advice="--repair builds the index again.", repairable=True)
            elif line != "ok":
                yield line
    except sqlite3.DatabaseError as error:
        yield str(error)


@check(
    "schema-version",
    "The schema is the one of this greenroom.",
    severity="warning",
    advice="Whoever opens the store brings it up to date, --repair does, too. Only then can all checks "
    "be done.",
    repairable=True,
)
def schema_version(store: Inspection) -> Iterator[str]:
    if store.version < len(schema_steps.STEPS):
        yield f"the schema has version {store.version}, this greenroom makes {len(schema_steps.STEPS)}"


@check(
    "tables",
    "Every table has the columns that this greenroom makes.",
    advice=BACKUP,
)
def tables(store: Inspection) -> Iterator[str]:
    expected, found = made_here().tables, Parts.of(store.connection).tables
    for name, columns in expected.items():
        if name not in found:
            yield f"there is no table {name}"
        elif found[name] != columns:
            differing = sorted({column[0] for column in set(found[name]) ^ set(columns)})
            yield f"the table {name} is another one, in: {', '.join(differing) or 'the order of columns'}"


@check(
    "indexes-and-triggers",
    "Every index and trigger is there as this greenroom makes it: they keep paths and run ids unique, "
    "and the numbers in `meta` right.",
    advice="--repair makes it again.",
    repairable=True,
)
def indexes_and_triggers(store: Inspection) -> Iterator[str]:
    expected, found = made_here().others, Parts.of(store.connection).others
    for name, part in expected.items():
        if name not in found:
            yield f"there is no {part.type} {name}"
        elif found[name].meaning != part.meaning:
            yield f"the {part.type} {name} is another one"


@check(
    "additions",
    "Nothing that somebody added changes or refuses what is written.",
    severity="warning",
    advice="Drop it, unless you know what it is for.",
)
def additions(store: Inspection) -> Iterator[str]:
    expected, found = made_here().others, Parts.of(store.connection).others
    for name, part in found.items():
        if name not in expected and (part.type == "trigger" or "UNIQUE" in part.meaning[2].upper()):
            yield f"the {part.type} {name} on {part.table} is none of greenroom's"


@check(
    "key",
    "The key that everything stored is signed with lies beside the store.",
    advice="Put the store's own key file back. Without it nothing can be opened.",
)
def key(store: Inspection) -> Iterator[str]:
    if store.key_problem is not None and store.row("SELECT 1 FROM agents LIMIT 1"):
        yield store.key_problem


@check(
    "file-modes",
    "Nobody but the file's owner can read the store or its key.",
    severity="warning",
    advice="--repair takes the right away. Who could read the key so far can sign values.",
    repairable=True,
)
def file_modes(store: Inspection) -> Iterator[str]:
    for name in files_of(store.store):
        mode = stat.S_IMODE(os.lstat(name).st_mode)
        if mode & 0o077:
            yield f"{name} has the mode {mode:04o}, not 0600"


def files_of(store: str) -> list[str]:
    """The store and the files beside it, those that exist."""
    names = [store, *(store + suffix for suffix in schema.SIDECARS)]
    assert key_path(store) in names
    return [name for name in names if os.path.lexists(name)]


ANY_VERSION = (pages, schema_version, file_modes)
"""The checks that know nothing of the tables."""
CHECKS = (tables, indexes_and_triggers, additions, key)
