"""The parts of a schema, compared by meaning: two versions of sqlite-utils spell it differently."""

import os
import re
import sqlite3
from functools import cache
from tempfile import TemporaryDirectory
from typing import TypeAlias

from msgspec import Struct

from .. import schema

LOST_FOUND = "lost_found"
_FOREIGN_TO_US = ("sqlite_", "_sqlite_")  # SQLite's own, and the list of migrations

Column: TypeAlias = tuple[str, str, int, int]
"""Name, type, whether NULL is refused, place in the primary key."""


class Part(Struct, frozen=True):
    """An index or a trigger."""

    type: str
    table: str
    sql: str

    @property
    def meaning(self) -> tuple[str, str, str]:
        return self.type, self.table, " ".join(re.sub(r'["`\[\]]', "", self.sql).split()).rstrip(";")


class Parts(Struct, frozen=True):
    """A schema."""

    tables: dict[str, tuple[Column, ...]]
    others: dict[str, Part]  # indexes and triggers by name

    @classmethod
    def of(cls, connection: sqlite3.Connection) -> "Parts":
        tables: dict[str, tuple[Column, ...]] = {}
        others: dict[str, Part] = {}
        found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid")
        for what, name, table, sql in found.fetchall():
            if table.startswith(_FOREIGN_TO_US) or table == LOST_FOUND:
                continue
            if what == "table":
                tables[name] = tuple(
                    connection.execute(
                        'SELECT name, upper(type), "notnull", pk FROM pragma_table_info(?)', (name,)
                    )
                )
            elif sql is not None:  # an index without SQL is a part of its table
                others[name] = Part(what, table, sql)
        return cls(tables, others)


@cache
def made_here() -> Parts:
    """The schema that this greenroom makes: by making a store, 50 ms."""
    with TemporaryDirectory(prefix="greenroom-") as folder:
        made = schema.open_for_writing(os.path.join(folder, "made.db"), "memory", private=True)
        try:
            return Parts.of(made)
        finally:
            made.close()
