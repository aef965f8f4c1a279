"""Programs of others under `acp_agent`, as far as they go without a network. `make peers` fetches them."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("acp", reason="the protocol's SDK is not installed: pip install 'greenroom[acp]'")

from greenroom import RunFailed
from greenroom.drivers import acp_agent

from .conftest import DEADLINE, alive, descendants

PEERS = Path(os.environ.get("GREENROOM_PEERS", Path(sys.prefix) / "peers"))
PATIENCE = 3 * DEADLINE  # they take seconds to start on a busy machine


def example(name: str) -> str:
    found = sorted(PEERS.glob(f"agent_client_protocol-*/examples/{name}"))
    if not found:
        pytest.skip(f"the SDK's examples are not in {PEERS}: `make peers` fetches them")
    return str(found[-1])


@pytest.fixture
def ended(until: Any) -> Callable[[Any], None]:
    """Ends an agent's session and makes sure that nothing of its program is left."""

    def end(ref: Any) -> None:
        below = descendants()
        assert len(below) > 1
        assert ref.evict()
        until(lambda: sum(map(alive, below)) == 1, "the warden alone")

    return end


def test_the_example_agent_of_the_sdk_runs(runtime: Any, ended: Any, progress: Any) -> None:
    kind = acp_agent([sys.executable, example("agent.py")], name="example of the sdk")
    agents = runtime()
    ref = agents.spawn(kind, "/t/a", input="hello")
    assert ref.run.result(PATIENCE) == {"message": "Client sent:hello", "stop_reason": "end_turn"}
    assert [name for name, _ in progress(agents, "/t/a")] == ["agent_message_chunk"] * 2
    ended(ref)
    assert ref.followup("again").result(PATIENCE)["message"] == "Client sent:again"


def test_the_echo_agent_of_the_sdk_runs(runtime: Any, ended: Any) -> None:
    kind = acp_agent([sys.executable, example("echo_agent.py")], name="echo of the sdk")
    ref = runtime().spawn(kind, "/t/a", input="hello")
    assert ref.run.result(PATIENCE) == {"message": "hello", "stop_reason": "end_turn"}
    ended(ref)


def test_codex_starts_and_says_that_it_wants_a_login(runtime: Any, ended: Any, tmp_path: Path) -> None:
    program = PEERS / "node_modules/.bin/codex-acp"
    if not program.exists():
        pytest.skip(f"codex-acp is not in {PEERS}: `make peers` fetches it")
    env = {"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path)}
    ref = runtime().spawn(
        acp_agent([str(program)], name="codex", env=env, cwd=tmp_path), "/t/a", input="hi"
    )
    with pytest.raises(RunFailed, match=r"asks for a login \(Authentication required; .*CODEX_API_KEY"):
        ref.run.result(PATIENCE)
    assert ref.info().status == "idle"  # it started, and shook hands
    ended(ref)  # the launcher, and what it launched
