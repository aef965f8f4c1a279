"""A store at rest, read as any SQLite client would, and what must hold of it wherever it was cut off.

Works on a copy: to open a store is to recover it, and what is audited must be what the crash left.
"""

import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from msgspec import Struct

from greenroom.persistence.keys import SEAL_SIZE

TERMINAL = ("completed", "failed", "interrupted")


class Promises(Struct):
    """What a client was told, what it asked for besides, and the events it heard."""

    told: dict[str, Any]
    asked: set[str]  # and not answered

    @classmethod
    def of(cls, notes: list[tuple[str, str, Any]]) -> "Promises":
        told = {step: value for kind, step, value in notes if kind == "told"}
        return cls(told, {step for kind, step, _ in notes if kind == "asks"} - told.keys())


class Rest:
    """The rows of a store, and the states of its agents."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.integrity = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        made = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        self.agents: dict[int, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.inbox: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.states: dict[int, Any] = {}
        self.known = 0
        if not made:
            return
        self.agents = {row["agent_id"]: row for row in _rows(connection, "agents", "agent_id")}
        gone = _rows(connection, "erased", "number")  # deleted: nobody sees what is still to be removed
        ids = {row["agent_id"] for row in gone}
        runs = [row for row in _rows(connection, "runs", "serial") if row["agent_id"] not in ids]
        self.runs = {row["run_id"]: row for row in runs}
        self.inbox = [
            row
            for row in _rows(connection, "inbox", "serial")
            if not {row["agent_id"], row["sender_id"]} & ids
        ]
        self.events = [
            event
            for event in _rows(connection, "events", "seq")
            if event["type"] == "agent.deleted"
            or not any(
                event["path"] == row["path"] and row["low"] <= event["seq"] < row["high"] for row in gone
            )
        ]
        for row in _rows(connection, "snapshots", "agent_id"):
            if row["data"] is None:
                self.integrity.append(f"the snapshot of agent {row['agent_id']} has no data")
                continue
            self.states[row["agent_id"]] = msgspec.json.decode(row["data"][SEAL_SIZE:])
        (self.known,) = connection.execute("SELECT known FROM meta").fetchone()

    @classmethod
    def of(cls, store: Path) -> "Rest":
        """Of the file at `store`, with its log, untouched."""
        with TemporaryDirectory(dir=store.parent) as folder:
            copy = Path(folder, store.name)
            for suffix in ("", "-wal", "-journal"):
                if Path(f"{store}{suffix}").exists():
                    shutil.copyfile(f"{store}{suffix}", f"{copy}{suffix}")
            connection = sqlite3.connect(copy)
            try:
                return cls(connection)
            finally:
                connection.close()

    def at(self, path: str) -> list[dict[str, Any]]:
        return [row for row in self.agents.values() if row["path"] == path]

    def event(self, type: str, path: str, run_id: str | None = None) -> int:
        """How many there are."""
        return sum((e["type"], e["path"], e["run_id"]) == (type, path, run_id) for e in self.events)

    def messages(self, path: str) -> list[Any]:
        """All that ever came into the inbox at `path` and is not forgotten: read, then unread."""
        found: list[Any] = []
        for row in self.at(path):
            state = self.states.get(row["agent_id"], {})
            found += state.get("read", [])
            found += [_loads(m["body"]) for m in self.inbox if m["agent_id"] == row["agent_id"]]
        return found


def _rows(connection: sqlite3.Connection, table: str, order: str) -> list[dict[str, Any]]:
    cursor = connection.execute(f"SELECT * FROM {table} ORDER BY {order}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _loads(sealed: bytes) -> Any:
    import pickle

    return pickle.loads(sealed[SEAL_SIZE:])


def torn(rest: Rest) -> list[str]:
    """What is there by halves. Nothing of this depends on who was told what."""
    found = [f"integrity: {line}" for line in rest.integrity if line != "ok"]
    seqs = [event["seq"] for event in rest.events]
    if seqs != sorted(set(seqs)):
        found.append(f"the events are numbered {seqs}")
    open_paths = [row["path"] for row in rest.agents.values() if row["status"] != "closed"]
    if len(set(open_paths)) != len(open_paths) or rest.known != len(open_paths):
        found.append(f"open are {open_paths}, known {rest.known}")
    erased = {event["path"] for event in rest.events if event["type"] == "agent.deleted"}
    for row in rest.agents.values():
        if not rest.event("agent.spawned", row["path"]):
            found.append(f"{row['path']} is there, its spawning is no event")
        if (row["status"] == "closed") != bool(rest.event("agent.closed", row["path"])):
            found.append(f"{row['path']} is {row['status']}, the events say otherwise")
    for event in rest.events:
        if event["type"] == "agent.spawned" and not rest.at(event["path"]):
            if event["path"] not in erased:
                found.append(f"{event['path']} was spawned and is not there")
        elif event["run_id"] and event["run_id"] not in rest.runs and event["path"] not in erased:
            found.append(f"{event['type']} of {event['run_id']}, which is not there")
    for run_id, run in rest.runs.items():
        found += _torn_run(rest, run_id, run)
    return found + _torn_states(rest) + _torn_turns(rest)


def _torn_run(rest: Rest, run_id: str, run: dict[str, Any]) -> list[str]:
    agent = rest.agents.get(run["agent_id"])
    if agent is None:
        return [f"{run_id} belongs to no agent"]
    path, status = agent["path"], run["status"]
    found = []
    if rest.event("run.accepted", path, run_id) != 1:
        found.append(f"{run_id} is there, its acceptance is not one event")
    for outcome in TERMINAL:
        if rest.event(f"run.{outcome}", path, run_id) != (status == outcome):
            found.append(f"{run_id} is {status}, with {outcome} as an event or more than one")
    if (run["ended_at"] is not None) != (status in TERMINAL):
        found.append(f"{run_id} is {status}, ended at {run['ended_at']}")
    if agent["status"] == "closed" and status not in TERMINAL:
        found.append(f"{run_id} has no outcome, its agent is closed")
    if status == "interrupted" and "agent was closed" in run["error"] and agent["status"] != "closed":
        found.append(f"{run_id} was ended by a closing that did not take place")
    return found


def _torn_states(rest: Rest) -> list[str]:
    """A counter was given exactly the inputs of its completed runs, in their order."""
    found = []
    for agent_id, agent in rest.agents.items():
        state = rest.states.get(agent_id, {})
        if agent["kind"] == "story-counter":
            completed = [
                _loads(run["input"])
                for run in rest.runs.values()
                if run["agent_id"] == agent_id and run["status"] == "completed"
            ]
            if state.get("given", []) != completed:
                found.append(f"{agent['path']} counted {state.get('given')}, completed {completed}")
        elif agent["kind"] == "story-hangs" and state:
            found.append(f"{agent['path']} kept {state} of a turn that did not complete")
    return found


def _torn_turns(rest: Rest) -> list[str]:
    """What the parent's turns change, they change together."""
    found = []
    box = rest.messages("/story/box")
    for row in rest.at("/story/p"):
        state = rest.states.get(row["agent_id"], {})
        of_row = [run for run in rest.runs.values() if run["agent_id"] == row["agent_id"]]
        first = [run for run in of_row if not run["awaits"]]
        later = [run for run in of_row if run["awaits"]]
        ended = sum(run["status"] == "completed" for run in first)
        fanned = sum(run["status"] == "completed" for run in later)
        facts = {
            "checkpoint": [("checked" in state), box.count("checked")],
            "turn": [ended, "nested" in state, len(later), box.count("ended")],
            "continuation": [fanned, "fan" in state, box.count("fan")],
        }
        found += [f"of the {what}: {parts}" for what, parts in facts.items() if len(set(parts)) > 1]
    return found


def broken(rest: Rest, promises: Promises) -> list[str]:
    """What was told and is not there, or was not asked for and is."""
    found = []
    steps = [*promises.told, *promises.asked]
    for step, value in promises.told.items():
        verb, *words = step.split()
        if not _kept(rest, verb, words, value, steps):
            found.append(f"told and not there: {step} {value if verb != 'hear' else ''}")
    for step in promises.asked:
        verb, *words = step.split()
        if verb == "spawn" and len(words) == 2 and bool(rest.at(words[0])) != (words[1] in rest.runs):
            found.append(f"of the spawn of {words[0]} and {words[1]} one is there without the other")
    runs = {words[2] for step in steps if len(words := step.split()) == 3 and words[0] != "send"}
    bodies = [step.split(maxsplit=2)[2] for step in steps if step.startswith("send ")]
    for run_id in rest.runs:
        if not isinstance(run_id, str):  # the file is torn
            found.append(f"a run cannot be read: its id is {run_id!r}")
        elif run_id not in runs and not run_id.startswith("run-"):
            found.append(f"{run_id} was never asked for")
    for path in ("/story/a", "/story/box", "/story/d"):
        read = rest.messages(path)
        if len(set(read)) != len(read):
            found.append(f"{path} has messages twice: {read}")
        sent = {"checked", "ended", "fan", *bodies}
        if not set(read) <= sent:
            found.append(f"{path} has messages that nobody sent: {read}")
    return found


def _kept(rest: Rest, verb: str, words: list[str], value: Any, steps: list[str]) -> bool:
    erased = f"delete {words[0]}" in steps
    match verb:
        case "spawn":
            there = bool(rest.at(words[0])) and all(run_id in rest.runs for run_id in words[1:])
            return there or erased
        case "followup":
            return words[1] in rest.runs
        case "send":
            return rest.messages(words[0]).count(" ".join(words[1:])) == 1 or erased
        case "outcome":
            run = rest.runs.get(words[0])
            if run is None:
                return any(step.startswith("delete ") for step in steps) and words[0] == "d-0"
            result = None if run["result"] is None else _loads(run["result"])
            return [run["status"], result] == value
        case "interrupt":
            return True  # what it comes to is the outcome's
        case "close":
            return all(row["status"] == "closed" for row in rest.at(words[0]))
        case "delete":
            return not rest.at(words[0])
        case "hear":
            there = [[e["seq"], e["type"], e["path"], e["run_id"]] for e in rest.events]
            deleted = {path: seq for seq, kind, path, _ in there if kind == "agent.deleted"}
            left = [event for event in value if event in there or event[0] >= deleted.get(event[2], 0)]
            return there[: len(left)] == left
    return True
