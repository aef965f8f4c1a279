"""Checks of what users stored: that it carries the store's signature, and can be read.

Nothing is unpickled here: to look at a store executes nobody's code. Values that only a pickle holds are
therefore known to be genuine, not to be loadable.
"""

from collections.abc import Callable, Iterator
from itertools import islice

from msgspec import Struct

from ...errors import SnapshotTampered
from .. import state_codec, value_errors
from ..keys import ColumnPlace, SignedColumns
from .check import BACKUP, check
from .inspection import Inspection

EXECUTE = ("cloudpickle", "cloudpickle+zlib")
"""Codecs that can execute code when they are decoded."""
SAMPLE = 100
"""Values that tell whether a key fits."""


class Column(Struct, frozen=True):
    """A column of signed values; `statement` gives the value, its agent's path, its place's columns."""

    name: str
    statement: str
    place: Callable[..., ColumnPlace]
    of_a_run: bool = False


CHECKED_COLUMNS = (
    Column(
        "config",
        "SELECT config, path, agent_id, path, kind, version, origin, started_by FROM agents",
        SignedColumns.config,
    ),
    Column(
        "input",
        "SELECT input, path, run_id, serial, r.agent_id, path, accepted_at, awaits, r.started_by, stem"
        " FROM runs AS r JOIN agents USING (agent_id)",  # `runs-of-agents` tells of the others
        SignedColumns.input,
        of_a_run=True,
    ),
    Column(
        "result",
        "SELECT result, path, run_id, r.agent_id, r.status"
        " FROM runs AS r LEFT JOIN agents USING (agent_id) WHERE result IS NOT NULL",
        SignedColumns.result,
        of_a_run=True,
    ),
    Column(
        "body",
        "SELECT body, path, serial, i.agent_id, sender, sender_id"
        " FROM inbox AS i LEFT JOIN agents USING (agent_id)",
        SignedColumns.body,
    ),
    Column(
        "state",
        "SELECT data, path, s.agent_id, codec, s.version"
        " FROM snapshots AS s LEFT JOIN agents USING (agent_id)",
        SignedColumns.state,
    ),
)
"""Everything that `records` seals, at the place that it seals it for."""


@check(
    "key-fits",
    "The key beside the store is the one that it is signed with.",
    advice="Put the store's own key file back.",
)
def key_fits(store: Inspection) -> Iterator[str]:
    if store.sealer is None:
        return  # `key` says so
    sample = list(islice(_problems(store), SAMPLE))
    if sample and None not in sample:
        yield f"none of {len(sample)} values carries the signature of this key"


@check(
    "signatures",
    "Every value is the one that was stored, at its own place.",
    advice=f"The value is refused unread. {BACKUP} Without one, delete() the agent.",
    deep=True,
)
def signatures(store: Inspection) -> Iterator[str]:
    for problem in _problems(store):
        if problem is not None:
            yield problem


def _problems(store: Inspection) -> Iterator[str | None]:
    """For every value None, or what is wrong with it."""
    if store.sealer is None:
        return
    for column in CHECKED_COLUMNS:
        rows = store.rows(column.statement)
        for sealed, path, *fields in store.ticking(f"signatures of {column.name}", rows):
            try:
                store.sealer.open(sealed, column.place(*fields), path or "")
            except SnapshotTampered as error:
                whose = f"run {fields[0]} of {path}" if column.of_a_run and path else path
                yield f"{whose or f'{column.name} of no agent'}: {error.problem}"
            else:
                yield None


@check(
    "snapshots-readable",
    "Every state is in a codec that this greenroom knows, and one that executes nothing can be decoded.",
    advice="The bytes are kept. Open it with the greenroom that wrote it, or put back a backup.",
    deep=True,
)
def snapshots_readable(store: Inspection) -> Iterator[str]:
    if store.sealer is None:
        return
    rows = store.rows(
        "SELECT path, s.agent_id, codec, s.version, data FROM snapshots AS s"
        " LEFT JOIN agents USING (agent_id) WHERE codec NOT IN (?, ?)",
        *EXECUTE,
    )
    for path, agent_id, tag, version, sealed in store.ticking("snapshots", rows):
        try:
            data = store.sealer.open(sealed, SignedColumns.state(agent_id, tag, version), path or "")
            state_codec.decode_state(data, tag)
        except SnapshotTampered:
            continue  # `signatures` says so
        except value_errors.Unreadable as error:
            yield f"the state of {path or f'agent {agent_id}'}: {error}"


CHECKS = (key_fits, signatures, snapshots_readable)
