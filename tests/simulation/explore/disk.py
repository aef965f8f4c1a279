"""A disk of plain dictionaries, changed and read by what each record means (`persistence.fold`)."""

from typing import Any

from greenroom.actors.storage.protocol import Answer, BatchWritten, Read, WriteBatch
from greenroom.paths import is_under
from greenroom.persistence.projections import apply_to_image, apply_to_run
from greenroom.persistence.queries import (
    FindAgent,
    FindAgents,
    FindRuns,
    HasAgents,
    ListAgents,
    LoadAgent,
    Query,
)
from greenroom.persistence.records import AddAgent, AddEvent, AddRun, Record
from greenroom.persistence.rows import AgentImage, AgentRow, RunRow, Unfinished
from greenroom.types import AgentId, RunId

OPEN = "accepted"
"""The status of a run that has no outcome."""


class Disk:
    """What is written, as of the last batch. Writer and reader in one, an actor to look at."""

    _myRef: Any  # noqa: N815

    def __init__(self) -> None:
        self.agents: dict[AgentId, AgentImage] = {}
        self.runs: dict[RunId, RunRow] = {}
        self.opened = 0

    def receiveMessage(self, message: WriteBatch | Read, sender: Any) -> None:  # noqa: N802
        """A batch, or a question."""
        answer: Any
        if isinstance(message, WriteBatch):
            self.write(message.records)
            answer = BatchWritten(message.number, 0.0)
        else:
            answer = Answer(message.request, self.read(message.query))
        self._myRef.actor_send(sender, answer)

    def write(self, records: tuple[Record, ...]) -> None:
        """One transaction."""
        for record in records:
            if isinstance(record, AddEvent):
                continue  # who is told is told by the commit log
            about: Any = getattr(record, "row", record)
            agent_id = about.agent_id
            image = apply_to_image(self.agents.get(agent_id), (record,))
            if image is not None:
                self.agents[agent_id] = image
            elif self.agents.pop(agent_id, None) is not None:
                self.runs = {key: row for key, row in self.runs.items() if row.agent_id != agent_id}
            run_id = getattr(about, "run_id", None)
            if run_id is not None and not isinstance(record, AddAgent):
                assert not isinstance(record, AddRun) or run_id not in self.runs, f"G2: {run_id} twice"
                run = apply_to_run(self.runs.get(run_id), (record,))
                assert run is not None, f"{record} is about a run that is not there"
                self.runs[run_id] = run

    def read(self, query: Query) -> Any:
        """The value that the query's docstring names."""
        rows = [image.row for image in self.agents.values()]
        match query:
            case FindAgent():
                there = [row for row in rows if row.path == query.path]
                opened = [row for row in there if row.status != "closed"]
                return max(opened or there, key=lambda row: row.agent_id, default=None)
            case FindAgents():
                return tuple(row for row in rows if row.agent_id in query.agent_ids)
            case LoadAgent():
                return self.agents.get(query.agent_id)
            case FindRuns():
                return tuple(self.runs.get(run_id) for run_id in query.run_ids)
            case HasAgents():
                return any(is_under(row.path, f"/{query.tree}") for row in rows)
            case ListAgents():
                page = [row for row in rows if _listed(row, query)]
                return tuple(sorted(page, key=lambda row: (row.path, row.agent_id))[: query.limit])
        raise TypeError(f"nobody asks {query!r} here")

    def unfinished(self) -> Unfinished:
        """What a new process begins with."""
        self.opened += 1
        serials = [row.serial for row in self.runs.values()]
        serials += [message.serial for image in self.agents.values() for message in image.inbox]
        runs = sorted((row for row in self.runs.values() if row.status == OPEN), key=lambda row: row.serial)
        agents = {row.agent_id: self.agents[row.agent_id].row for row in runs}
        known = sum(image.row.status != "closed" for image in self.agents.values())
        return Unfinished(
            epoch=self.opened,
            next_agent_id=max(self.agents, default=0) + 1,
            next_serial=max(serials, default=0) + 1,
            next_seq=1,
            runs=tuple(runs),
            agents=tuple(agents.values()),
            known=known,
        )


def _listed(row: AgentRow, query: ListAgents) -> bool:
    within = is_under(row.path, query.under) and (query.after is None or row.path > query.after)
    return within and (row.status == "closed") == query.closed
