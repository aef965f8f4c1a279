"""What the last worker saw through the public API, held against the file that it left."""

from collections.abc import Iterator
from typing import Any

from .facts import Facts


def differences(report: dict[str, Any], facts: Facts) -> Iterator[tuple[str, str]]:
    """Where the two differ, and what was not at rest although all was done."""
    stats = report["stats"]
    if stats["running"] or stats["queued"]:
        yield "the runtime", f"all is done, and its stats say {stats}"
    opened = {agent.path: agent for agent in facts.agents.values() if agent.open}
    if stats["agents"] != len(opened):
        yield "the runtime", f"{stats['agents']} agents are counted, {len(opened)} are open"
    for path in opened.keys() ^ {agent["path"] for agent in report["agents"]}:
        yield path, "is listed or stored, not both"
    for shown in report["agents"]:
        path, agent = shown["path"], opened.get(shown["path"])
        if agent is None:
            continue
        if shown["status"] != "idle" or shown["queued"] or shown["inbox"]:
            yield path, f"all is done, and it is {shown}"
        if (shown["kind"], shown["config"]) != (agent.kind, agent.config):
            yield path, f"is shown as {shown}, and stored as {agent}"
        if agent.state is not None and shown["state"] != agent.state:
            yield path, f"has another state than is stored: {shown['state']}, {agent.state}"
    for run_id, outcome in report["outcomes"].items():
        run = facts.runs.get(run_id)
        told = outcome and (outcome["status"], outcome["result"], outcome["error"], outcome["attempt"])
        stored = run and (run.status, run.result, run.error, run.attempt)
        if told != stored:
            yield run_id, f"has the outcome {told}, and {stored} is stored"
    stored_events = [[event.seq, event.type, event.path, event.run_id] for event in facts.events]
    if report["events"] != stored_events[: len(report["events"])]:
        yield "the runtime", "tells other events than are stored"
