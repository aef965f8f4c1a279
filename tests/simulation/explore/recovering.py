"""What a new process makes of the disk, if the old one is killed in any state that was explored."""

from typing import Any

from greenroom.types import RunId

from .disk import OPEN, Disk
from .house import House
from .observer import Observer


class Kills:
    """A visitor of an exploration: notes what is on the disk in each state, and what was told by then."""

    def __init__(self) -> None:
        self._cast: Any = None
        self._told: dict[Any, dict[Any, None]] = {}  # by disk: what observers had seen

    def __call__(self, house: House) -> None:
        self._cast = house.cast
        self._told.setdefault(house.parts["disk"], {})[house.parts["observer"]] = None

    def check(self) -> int:
        """Start a process on each disk, let it come to rest, and look at what became of what. How many."""
        for disk, observers in self._told.items():
            before, after = self._cast.look(disk), reopened(self._cast.look(disk))
            _check_outcomes(before, after)
            for observer in observers:
                _check_told(self._cast.look(observer), after)
        return len(self._told)


def reopened(disk: Disk) -> Disk:
    """What is on the disk when a new process has done all that was left to do."""
    house = House(slots=1, residents=3, disk=disk)
    house.settle()
    house.check_books()
    after: Disk = house.look("disk")
    return after


def _check_outcomes(before: Disk, after: Disk) -> None:
    for run_id, row in after.runs.items():
        assert row.status != OPEN, f"G3: {run_id} was accepted, and nothing came of it"
        earlier = before.runs.get(run_id)
        if earlier is not None and earlier.status != OPEN:
            assert earlier.status == row.status, f"G3: {run_id} was {earlier.status}, and is {row.status}"
    assert before.runs.keys() <= after.runs.keys(), "G3: a run is gone"
    for agent_id, image in after.agents.items():
        words = image.snapshot.data.decode().split() if image.snapshot else []
        done = sorted(word for word in words if word in after.runs)
        runs = [run for run, row in after.runs.items() if row.agent_id == agent_id]
        completed = sorted(run for run in runs if after.runs[run].status == "completed")
        assert done == completed, f"G3: {image.row.path} did {done}, and {completed} completed"


def _check_told(seen: Observer, after: Disk) -> None:
    for run_id in seen.accepted:
        assert run_id in after.runs, f"G3: {run_id} was told to be accepted, and is gone"
    for told, status in seen.outcome.items():
        row = after.runs[RunId(told)]
        assert row.status == status, f"G3: {told} was told to be {status}, and is {row.status}"
