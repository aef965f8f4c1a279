"""The runs that ended lately: who asks for one of them need not wait for a reader.

A turn that starts many runs and then waits for them finds most of them ended. Bounded in number and in
bytes; a run that is not in here is in the store.
"""

from collections import OrderedDict

from ...persistence.rows import RunRow
from ...types import RunId

MOST_RUNS = 16_384
"""Runs."""

LARGEST_RUN_BYTES = 512
"""Bytes of one run's input, result and error; what is larger is read from the store."""


class RecentRuns:
    """Ended runs in, the newest of them out."""

    def __init__(self) -> None:
        self._rows: OrderedDict[RunId, tuple[RunRow, int]] = OrderedDict()

    def add(self, row: RunRow, commit: int) -> None:
        """This run has ended, by the commit of that number."""
        if len(row.input) + len(row.result or b"") + len(row.error or "") <= LARGEST_RUN_BYTES:
            self._rows[row.run_id] = row, commit
            if len(self._rows) > MOST_RUNS:
                self._rows.popitem(last=False)

    def get(self, run_id: RunId) -> tuple[RunRow, int] | None:
        """The run and its commit, if it ended lately."""
        return self._rows.get(run_id)

    def accepted(self, run_id: RunId) -> None:
        """A run has this id now: an older one, which the store forgot, is not told for it."""
        self._rows.pop(run_id, None)

    def forget(self) -> None:
        """Something was erased: what is in here may not be there any more."""
        self._rows.clear()
