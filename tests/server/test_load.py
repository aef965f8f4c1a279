"""What a server does under load, as ratios within one run: how fast this machine is does not matter."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from .conftest import ROOT, Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_work_is_accepted_in_a_fraction_of_the_time_that_its_agents_take_to_open() -> None:
    """`bench_http`, in small: 500 requests a second for agents that take 3 s to open."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/bench_http.py"), "--quick", "--json"],
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    p99 = json.loads(done.stdout)["rows"][1]
    assert p99["workload"] == "202 at 500 requests/s, durable, p99"
    assert p99["ours"]["median"] < 3_000 / 2


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
    assert beside < 50 * alone + 0.5
