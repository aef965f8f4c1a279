"""What a bystander sees of a house: the events and the answers, and what must be true of them."""

from collections.abc import Mapping
from typing import Any

from greenroom.actors.ledger.replies import RunAccepted, RunOutcome
from greenroom.types import RunId

from .disk import Disk

ENDS = {f"run.{status}": status for status in ("completed", "failed", "interrupted")}

AFTER = "-after-"
"""In the id of a continuation, between the run that asked for it and those that it waits for."""


class Observer:
    """Told of everything in its order; raises at the first thing that is wrong.

    `ended`: what had been told before it came.
    """

    def __init__(self, ended: Mapping[Any, str]) -> None:
        self.outcome: dict[str, str] = dict(ended)
        self.accepted: dict[str, bool] = {}
        self.started: dict[str, int] = {}
        self.completed: dict[str, tuple[str, ...]] = {}  # by path, in order
        self.open: dict[str, bool] = {}  # by path
        self.messages: dict[str, int] = {}
        self.over: dict[str, str] = {}  # runs that ended, of agents that are open; by id, their paths
        self.crashed = 0

    def face(self) -> frozenset[str]:
        """The runs whose code is over, if what was told is true."""
        return frozenset(self.over)

    def __getstate__(self) -> dict[str, Any]:
        """In one order: what was seen in another one is no other world."""
        state = self.__dict__
        return {
            key: dict(sorted(value.items())) if type(value) is dict else value
            for key, value in state.items()
        }

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        """Events, the answer to a caller, or a crash."""
        if message == "a crash":
            self.crashed += 1
        elif isinstance(message, tuple):
            for event, path, run_id in message:
                self._told(event, path, run_id or "")
        elif isinstance(message, RunAccepted):
            self.accepted[message.run_id] = True
        elif isinstance(message, RunOutcome):
            told = self.outcome.get(message.run.run_id)
            assert told in (None, message.run.status), f"G2: {message.run.run_id} was {told}: {message}"

    def _told(self, event: str, path: str, run_id: str) -> None:
        match event:
            case "agent.spawned":
                assert not self.open.get(path), f"G7: {path} was spawned and is open"
                self.open[path] = True
                self.messages[path] = 0
            case "agent.closed":
                assert self.open.get(path), f"G7: {path} was closed and is not open"
                self.open[path] = False
                self.over = {run: at for run, at in self.over.items() if at != path}  # its code may unwind
            case "message.accepted":
                self.messages[path] = self.messages.get(path, 0) + 1
            case "run.accepted":
                self.accepted[run_id] = True
            case "run.started":
                assert run_id not in self.outcome, f"G2: {run_id} has ended, and begins"
                for awaited in filter(None, run_id.partition(AFTER)[2].split("+")):
                    assert awaited in self.outcome, f"{run_id} begins, and {awaited} has not ended"
                self.started[run_id] = times = self.started.get(run_id, 0) + 1
                assert times <= 1 + self.crashed, f"G2: {run_id} was begun {times} times"
            case _ if event in ENDS:
                assert run_id not in self.outcome, f"G2: {run_id} ended twice"
                self.outcome[run_id] = ENDS[event]
                self.over[run_id] = path
                if event == "run.completed":
                    self.completed[path] = (*self.completed.get(path, ()), run_id)
            case _:
                pass

    def check_at_rest(self) -> None:
        """Every run that was accepted has its outcome."""
        left = self.accepted.keys() - self.outcome.keys()
        assert not left, f"G2: accepted, and without an outcome: {sorted(left)}"

    def check_disk(self, disk: Disk) -> None:
        """What is written is what was told."""
        for run_id, row in disk.runs.items():
            told = self.outcome.get(run_id)
            assert row.status == told, f"G2: {run_id} is {row.status} on disk and was told {told}"
        for agent_id, image in disk.agents.items():
            words = image.snapshot.data.decode().split() if image.snapshot else []
            done = [word for word in words if word in disk.runs]
            told_so = self.completed.get(image.row.path, ())
            completed = [run for run in told_so if disk.runs[RunId(run)].agent_id == agent_id]
            assert done == completed, f"G3: {image.row.path} did {done}, and {completed} completed"
            for word in words:
                awaited, is_result, status = word.partition(":")
                assert not is_result or self.outcome[awaited] == status, f"{image.row.path} saw {word}"
            mail = [word for word in words if word.startswith("#")]
            mail += [f"#{message.serial}" for message in image.inbox]
            assert len(mail) == len(set(mail)), f"G3: {image.row.path} got a message twice: {mail}"
            if image.row.status != "closed":
                assert len(mail) == self.messages.get(image.row.path, 0), f"G3: {image.row.path} got {mail}"
