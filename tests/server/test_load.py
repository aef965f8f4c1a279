"""What a server does under load, as ratios within one run: how fast this machine is does not matter."""

import time
from collections.abc import Callable

import pytest

from .conftest import Served

pytestmark = pytest.mark.slow


def test_work_is_accepted_whether_its_agents_ever_open_or_not(serve: Callable[..., Served]) -> None:
    """`bench_http` measures how long that takes; here nothing could go on if anybody waited for it."""
    api = serve("--drain", "0").client()
    for number in range(300):
        spawn = {"kind": "Stuck", "path": f"/t/a{number}", "input": number}
        assert api.post("/api/agents", json=spawn).status_code == 202
    assert api.get("/api/stats").json()["queued"] == 300
    assert api.get("/api/agents?status=starting&limit=1").json()["agents"]


def test_fifty_streams_do_not_hold_up_those_who_ask(serve: Callable[..., Served]) -> None:
    """The slowest but two of a hundred requests, beside streams that are told a lot, and without."""
    from .test_streams import connected

    server = serve()
    api = server.client()
    api.post("/api/agents", json={"kind": "echo", "path": "/t/a"})

    def worst() -> float:
        run = api.post("/api/agents/t/a/runs", json={"input": {"tell": 300, "size": 100}}).json()["run_id"]
        took = []
        for _ in range(100):
            begun = time.perf_counter()
            assert api.get("/healthz").status_code == 200
            took.append(time.perf_counter() - begun)
        api.get(f"/api/runs/{run}?wait=60")
        return sorted(took)[-3]

    alone = worst()
    clients = [connected(server, "/api/events") for _ in range(50)]
    beside = worst()
    for client in clients:
        client.close()
    assert beside < 50 * alone + 5.0
