"""How big a store is, and how many there are of what."""

import os
import sqlite3

from .inspection import Inspection
from .parts import LOST_FOUND
from .report import Counts, Sizes, SnapshotCount


def measure(store: Inspection) -> Sizes:
    """In a quick examination without the tables' sizes, which take reading every page."""
    wal = store.store + "-wal"
    page, pages, free = (
        store.row(f"PRAGMA {name}")[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return Sizes(
        file=os.stat(store.store).st_size,
        wal=os.stat(wal).st_size if os.path.exists(wal) else 0,
        page=page,
        pages=pages,
        free_pages=free,
        tables={} if store.quick else _tables(store),
    )


def _tables(store: Inspection) -> dict[str, int]:
    try:
        return dict(
            store.rows(
                "SELECT coalesce(m.tbl_name, d.name) AS name, sum(d.pgsize) AS bytes"
                " FROM dbstat('main', 1) AS d LEFT JOIN sqlite_master AS m ON m.name = d.name"
                " GROUP BY 1 ORDER BY bytes DESC, 1"
            )
        )
    except sqlite3.Error:  # this SQLite was built without dbstat, or a page is damaged: `pages` tells that
        return {}


def count(store: Inspection) -> Counts:
    """Raises `sqlite3.Error` where the tables are not what they should be."""
    first, last, number = store.row("SELECT min(seq), max(seq), count(*) FROM events")
    lost = store.row("SELECT 1 FROM sqlite_master WHERE name = ?", LOST_FOUND)
    return Counts(
        agents=_by_status(store, "agents"),
        runs=_by_status(store, "runs"),
        inbox=store.row("SELECT count(*) FROM inbox")[0],
        events=number,
        first_event=first,
        last_event=last,
        snapshots=tuple(
            SnapshotCount(kind, codec, number, int(size))
            for kind, codec, number, size in store.rows(
                "SELECT coalesce(CAST(kind AS TEXT), ''), coalesce(CAST(codec AS TEXT), ''), count(*),"
                " total(length(data)) FROM snapshots LEFT JOIN agents USING (agent_id)"
                " GROUP BY 1, 2 ORDER BY 4 DESC, 1, 2"
            )
        ),
        set_aside=store.row(f"SELECT count(*) FROM {LOST_FOUND}")[0] if lost else 0,
    )


def _by_status(store: Inspection, table: str) -> dict[str, int]:
    found = store.rows(f"SELECT coalesce(CAST(status AS TEXT), 'NULL'), count(*) FROM {table} GROUP BY 1")
    return dict(found)
