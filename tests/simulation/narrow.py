"""The bounds of tables, pages and batches as small as can be, so that a short story reaches them."""

from greenroom.actors.directory import path_filter, paths
from greenroom.actors.events import buffer
from greenroom.actors.ledger import progress, recent_runs
from greenroom.actors.ledger.log import commit_log
from greenroom.actors.supervisor import actor as supervisor

BOUNDS = (
    (supervisor, "PATHS_AT_HAND", 0),
    (path_filter, "MOST_TREES", 1),
    (paths, "PAGE", 1),
    (recent_runs, "MOST", 1),
    (buffer, "MOST_BYTES", 50),
    (buffer, "PORTION", 1),
    (progress, "PORTION", 1),
    (progress, "SHARE", 1),
    (progress, "MOST_UNWRITTEN", 1),
    (commit_log, "MOST_RECORDS", 2),
    (commit_log, "MOST_LAZY", 2),
)
"""Where each stands, and what it is in a narrow runtime."""
