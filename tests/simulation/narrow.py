"""The bounds of tables, pages and batches as small as can be, so that a short story reaches them."""

from greenroom.actors.directory import path_filter, paths
from greenroom.actors.events import buffer
from greenroom.actors.ledger import progress, recent_runs
from greenroom.actors.ledger.log import commit_log
from greenroom.actors.supervisor import actor as supervisor

BOUNDS = (
    (supervisor, "PATHS_AT_HAND", 0),
    (path_filter, "MOST_TREES", 1),
    (paths, "AGENTS_IN_CLOSING_PAGE", 1),
    (recent_runs, "MOST_RUNS", 1),
    (buffer, "BUFFER_BYTES", 50),
    (buffer, "READERS_IN_PORTION", 1),
    (progress, "EVENTS_IN_PORTION", 1),
    (progress, "SHARE", 1),
    (progress, "MOST_UNWRITTEN", 1),
    (commit_log, "RECORDS_IN_BATCH", 2),
    (commit_log, "MOST_LAZY", 2),
)
"""Where each stands, and what it is in a narrow runtime."""
