"""The bounds of tables, pages and batches as small as can be, so that a short story reaches them."""

from greenroom.actors.directory import novelty, paths
from greenroom.actors.events import ring
from greenroom.actors.ledger import lately, progress
from greenroom.actors.supervisor import actor as supervisor
from greenroom.persistence import journal

BOUNDS = (
    (supervisor, "PATHS_AT_HAND", 0),
    (novelty, "MOST_TREES", 1),
    (paths, "PAGE", 1),
    (lately, "MOST", 1),
    (ring, "MOST_BYTES", 50),
    (ring, "PORTION", 1),
    (progress, "PORTION", 1),
    (progress, "SHARE", 1),
    (progress, "MOST_UNWRITTEN", 1),
    (journal, "MOST_RECORDS", 2),
    (journal, "MOST_LAZY", 2),
)
"""Where each stands, and what it is in a narrow runtime."""
