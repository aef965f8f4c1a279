"""What `delete` erases: the agent, all that it was told, told and sent; and nothing of others."""

from pathlib import Path
from typing import Any

import pytest

from greenroom import AgentNotFound, RunNotFound, Runtime, Turn, agent

DEADLINE = 600.0
SECRETS = (
    b"SECRETCONFIG",
    b"SECRETINPUT",
    b"SECRETEVENT",
    b"SECRETMESSAGE",
    b"SECRETRESULT",
    b"SECRETSTATE",
)


@agent(name="deleting-chat", codec="json")
async def chat(turn: Turn) -> Any:
    turn.state["said"] = "SECRETSTATE"
    turn.emit("token", "SECRETEVENT")
    await turn.send("/u/peer", "SECRETMESSAGE")
    return "SECRETRESULT"


@agent(name="deleting-peer")
async def peer(turn: Turn) -> Any:
    return [message.body for message in turn.inbox]


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "evicted"])
def test_delete_erases_what_the_agent_told_and_sent(tmp_path: Path, resident: bool) -> None:
    store = tmp_path / "agents.db"
    with Runtime(store, kinds=[chat, peer]) as runtime:
        other = runtime.spawn(peer, "/u/peer")
        assert other.followup(0).result(DEADLINE) == []  # it is in memory
        alice = runtime.spawn(chat, "/u/alice", config={"name": "SECRETCONFIG"})
        runs = [alice.followup("SECRETINPUT") for _ in range(20)]
        for run in runs:
            run.result(DEADLINE)
        other.send("from outside")
        assert other.info().inbox == 21
        if not resident:
            other.evict()
        alice.delete()
        # at once, for everybody
        with pytest.raises(AgentNotFound):
            alice.info()
        with pytest.raises(RunNotFound):
            runtime.run(runs[0].run_id).info()
        told = [event.type for event in runtime.events("/u/alice", since=0, follow=False)]
        assert told == ["agent.deleted"]
        assert other.info().inbox == 1
        assert other.followup(1).result(DEADLINE) == ["from outside"]
    for file in tmp_path.iterdir():
        held = [secret for secret in SECRETS if secret in file.read_bytes()]
        assert held == [], file


def test_the_next_agent_at_its_path_keeps_what_is_its_own(tmp_path: Path) -> None:
    with Runtime(tmp_path / "agents.db", kinds=[peer]) as runtime:
        first = runtime.spawn(peer, "/t/a", input=1)
        first.run.result(DEADLINE)
        first.close()
        second = runtime.spawn(peer, "/t/a", input=2)
        second.run.result(DEADLINE)
        second.delete()
        third = runtime.spawn(peer, "/t/a", input=3)
        third.run.result(DEADLINE)
        told = [event.type for event in runtime.events("/t/a", since=0, follow=False)]
        life = ["agent.spawned", "run.accepted", "run.started", "run.completed"]
        told = [kind for kind in told if kind in (*life, "agent.closed", "agent.deleted")]
        assert told == [*life, "agent.closed", "agent.deleted", *life]


def test_a_live_reader_hears_of_the_deletion_and_goes_on(tmp_path: Path) -> None:
    with Runtime(tmp_path / "agents.db", kinds=[peer]) as runtime:
        events = runtime.events("/t", since=0)
        ref = runtime.spawn(peer, "/t/a", input=1)
        ref.run.result(DEADLINE)
        ref.delete()
        runtime.spawn(peer, "/t/b", input=1).run.result(DEADLINE)
        told = []
        for event in events:
            told.append((event.type, event.path))
            if told[-1] == ("run.completed", "/t/b"):
                break
        assert ("agent.deleted", "/t/a") in told
