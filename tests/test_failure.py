"""A control actor with a bug: the runtime stops, everybody is told, what was accepted is there again."""

import threading
import time
from pathlib import Path

import pytest

from greenroom import InternalError, Runtime, Turn, agent


@agent(name="failure-echo")
async def echo(turn: Turn) -> object:
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("role", ["ledger", "directory", "residency", "slots", "events"])
def test_a_control_actor_that_fails_stops_the_runtime_and_tells_everybody(
    tmp_path: Path, role: str
) -> None:
    runtime = Runtime(tmp_path / "agents.db").start()
    ref = runtime.spawn(echo, "/t/a", input=1)
    assert ref.run.result(timeout=10) == 1
    stream = runtime.events("/t")
    told: list[object] = []

    def read() -> None:
        try:
            list(stream)
        except InternalError as error:
            told.append(error)

    reader = threading.Thread(target=read)
    reader.start()

    engine = runtime._engine
    engine._base.post(engine._roles[role], "what no control actor knows")

    reader.join(10)
    assert len(told) == 1, "who waited was told"
    with pytest.raises(InternalError, match="report"):
        ref.info()
    begun = time.monotonic()
    runtime.close()
    assert time.monotonic() - begun < 15, "nothing hangs"

    with Runtime(tmp_path / "agents.db") as again:
        assert again.agent("/t/a").followup(2).result(timeout=10) == 2
