"""Agents and runs over HTTP, as a client sees them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import Served, facts


def spawn(api: httpx.Client, path: str, kind: str = "echo", **more: Any) -> httpx.Response:
    return api.post("/api/agents", json={"kind": kind, "path": path, **more})


def ended(api: httpx.Client, run_id: str) -> dict[str, Any]:
    run: dict[str, Any] = api.get(f"/api/runs/{run_id}", params={"wait": 30}).json()
    assert run["status"] in ("completed", "failed", "interrupted"), run
    return run


def problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()
    assert (answer.status_code, found["type"]) == (status, f"urn:greenroom:problem:{name}"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert found["status"] == status
    return found


def test_an_agent_is_made_works_and_is_looked_at(api: httpx.Client, tree: str) -> None:
    path = f"{tree}/a"
    made = spawn(api, path, config={"k": [1]}, input="page 1")
    assert made.status_code == 202
    assert made.headers["location"] == f"/api/agents{path}"
    run_id = made.json()["run_id"]
    assert ended(api, run_id)["result"] == "page 1"
    again = api.post(f"/api/agents{path}/runs", json={"input": {"page": 2}})
    assert (again.status_code, again.headers["location"]) == (202, f"/api/runs/{again.json()['run_id']}")
    run = ended(api, again.json()["run_id"])
    assert (run["input"], run["result"], run["attempt"]) == ({"page": 2}, {"page": 2}, 1)
    assert run["accepted_at"] <= run["started_at"] <= run["ended_at"]
    agent = api.get(f"/api/agents{path}").json()
    assert (agent["kind"], agent["status"], agent["config"]) == ("echo", "idle", {"k": [1]})
    assert agent["last_outcome"]["result"] == {"page": 2}
    assert api.get(f"/api/agents{path}/state").json()["state"] == {"runs": 2, "inbox": []}
    assert "nothing to do" in api.get(f"/api/agents{path}/explain").json()["text"]


def test_a_message_is_read_at_the_next_turn(api: httpx.Client, tree: str) -> None:
    spawn(api, tree)
    sent = api.post(f"/api/agents{tree}/messages", json={"body": [1, {"two": 3}]})
    assert (sent.status_code, sent.json()) == (202, {"path": tree})
    assert api.get(f"/api/agents{tree}").json()["inbox"] == 1
    ended(api, api.post(f"/api/agents{tree}/runs", json={"input": 1}).json()["run_id"])
    assert api.get(f"/api/agents{tree}/state").json()["state"]["inbox"] == [[1, {"two": 3}]]


def test_a_failure_is_an_outcome_and_no_error(api: httpx.Client, tree: str) -> None:
    run = ended(api, spawn(api, tree, input="fail").json()["run_id"])
    assert (run["status"], run["result"]) == ("failed", None)
    assert "on purpose" in run["error"]
    assert (run["error_type"], run["attempt"], run["crashes"]) == ("ValueError", 1, 0)
    assert api.get(f"/api/agents{tree}").json()["last_outcome"]["error_type"] == "ValueError"


def test_what_json_cannot_show_is_described_in_its_place(api: httpx.Client, tree: str) -> None:
    answer = api.get(f"/api/runs/{spawn(api, tree, 'odd', input=1).json()['run_id']}?wait=30")
    run = answer.json()
    assert run["result"]["plain"] == [1, [2, 3]]
    assert run["result"]["odd"] == {"type": "set", "text": "{4, 5}"}
    assert run["described"] == ["/result/odd", "/result/bytes", "/result/nan"]
    state = api.get(f"/api/agents{tree}/state").json()
    assert state["state"]["note"]["fields"]["text"] == "hello"
    assert state["described"] == ["/state/note", "/state/note/fields/tags", "/state/when"]
    agent = api.get(f"/api/agents{tree}").json()
    assert agent["described"][0] == "/last_outcome/result/odd"
    for text in (answer.content, json.dumps(state).encode()):
        assert b"\x80\x05" not in text  # what every pickle begins with


def test_the_idempotency_key_is_the_runs_id_and_given_twice_it_is_one_run(
    api: httpx.Client, tree: str
) -> None:
    key = {"Idempotency-Key": f"order{tree}"}
    first = api.post("/api/agents", json={"kind": "echo", "path": tree, "input": 1}, headers=key)
    again = api.post("/api/agents", json={"kind": "echo", "path": tree, "input": 1}, headers=key)
    assert first.json() == again.json() == {"path": tree, "run_id": f"order{tree}"}
    assert again.status_code == 202
    for _ in range(3):
        more = api.post(
            f"/api/agents{tree}/runs", json={"input": 2}, headers={"Idempotency-Key": tree + "/ü"[:1]}
        )
        assert more.status_code == 202
    ended(api, api.post(f"/api/agents{tree}/runs", json={"input": 3}).json()["run_id"])
    assert api.get(f"/api/agents{tree}/state").json()["state"]["runs"] == 3
    other = spawn(api, f"{tree}/other")
    assert other.status_code == 202
    taken = api.post(f"/api/agents{tree}/other/runs", json={"input": 2}, headers=key)
    problem(taken, 409, "run-id-taken")
    changed = api.post(f"/api/agents{tree}/runs", json={"input": "another"}, headers=key)
    told = problem(changed, 409, "run-id-taken")
    assert "another input" in str(told)
    assert tree in str(told)


def test_a_run_id_may_be_anything_printable_and_is_found_by_its_address(
    api: httpx.Client, tree: str
) -> None:
    spawn(api, tree)
    key = f"a/b c%2F?#[{tree}]"
    made = api.post(f"/api/agents{tree}/runs", json={"input": 1}, headers={"Idempotency-Key": key})
    assert made.json()["run_id"] == key
    assert api.get(made.headers["location"]).json()["run_id"] == key


def test_agents_may_be_called_like_resources(api: httpx.Client, tree: str) -> None:
    for name in ("runs", "state", "self", "close"):
        path = f"{tree}/{name}"
        made = spawn(api, path, input=name)
        agent = api.get(made.headers["location"]).json()
        assert agent["path"] == path
        assert api.get(f"/api/agents{path}/self").json()["path"] == path
        assert api.get(f"/api/agents/{path[1:].replace('/', '%2F')}").json()["path"] == path
        assert ended(api, made.json()["run_id"])["path"] == path
        assert api.post(f"/api/agents{path}/runs", json={"input": 1}).json()["path"] == path
    assert api.delete(f"/api/agents{tree}/runs/self").status_code == 202
    problem(api.delete(f"/api/agents{tree}/state"), 405, "wrong-method")
    assert api.get(f"/api/agents{tree}/state/self").status_code == 200


def test_interrupting_ends_work_and_keeps_the_agent(api: httpx.Client, tree: str) -> None:
    running = spawn(api, tree, input="for ever").json()["run_id"]
    waiting = api.post(f"/api/agents{tree}/runs", json={"input": 1}).json()["run_id"]
    one = api.post(f"/api/agents{tree}/interrupt", json={"run_id": waiting})
    assert (one.status_code, one.json()) == (202, {"path": tree, "interrupted": True})
    assert ended(api, waiting)["status"] == "interrupted"
    assert api.get(f"/api/runs/{running}").json()["status"] in ("accepted", "queued", "running")
    assert api.post(f"/api/agents{tree}/interrupt").json()["interrupted"] is True  # no body: all of them
    assert ended(api, running)["status"] == "interrupted"
    assert api.post(f"/api/agents{tree}/interrupt", json={"cascade": True}).json()["interrupted"] is False


def test_closed_agents_take_no_work_and_deleted_ones_are_gone(api: httpx.Client, tree: str) -> None:
    spawn(api, tree), spawn(api, f"{tree}/child")
    assert api.post(f"/api/agents{tree}/close").json() == {"path": tree}
    problem(api.post(f"/api/agents{tree}/child/runs", json={"input": 1}), 410, "agent-closed")
    problem(api.post(f"/api/agents{tree}/messages", json={"body": 1}), 410, "agent-closed")
    assert api.get(f"/api/agents{tree}").json()["status"] == "closed"
    assert api.delete(f"/api/agents{tree}").status_code == 202
    assert problem(api.get(f"/api/agents{tree}"), 404, "agent-not-found")["path"] == tree


def test_an_agent_is_evicted_pinned_and_loaded_again(api: httpx.Client, tree: str) -> None:
    ended(api, spawn(api, tree, input=1).json()["run_id"])
    assert api.post(f"/api/agents{tree}/pin").status_code == 202
    assert api.post(f"/api/agents{tree}/evict").json()["evicted"] is False
    assert api.post(f"/api/agents{tree}/unpin").status_code == 202
    assert api.post(f"/api/agents{tree}/evict").json()["evicted"] is True
    assert api.get(f"/api/agents{tree}").json()["resident"] is False
    ended(api, api.post(f"/api/agents{tree}/runs", json={"input": 1}).json()["run_id"])
    assert api.get(f"/api/agents{tree}/state").json()["state"]["runs"] == 2


def test_an_eviction_that_takes_long_holds_up_no_answer(
    api: httpx.Client, tree: str, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    ended(api, spawn(api, tree, "Clinging", config=str(done), input=1).json()["run_id"])
    assert api.post(f"/api/agents{tree}/evict").json() == {"path": tree, "evicted": None}
    done.touch()
    ended(api, api.post(f"/api/agents{tree}/runs", json={"input": 1}).json()["run_id"])


def test_work_is_accepted_at_once_however_slow_the_agent_is_to_open(api: httpx.Client, tree: str) -> None:
    made = spawn(api, tree, "Stuck", input=1)
    assert made.status_code == 202
    assert api.get(f"/api/agents{tree}").json()["status"] == "starting"
    for path, body in (("runs", {"input": 2}), ("messages", {"body": 3}), ("interrupt", {})):
        assert api.post(f"/api/agents{tree}/{path}", json=body).status_code == 202
    assert ended(api, made.json()["run_id"])["status"] == "interrupted"
    assert api.delete(f"/api/agents{tree}").status_code == 202


def test_work_goes_on_without_its_client(server: Served, api: httpx.Client, tree: str) -> None:
    spawn(api, tree), spawn(api, f"{tree}/b", input="for ever")
    key = f"left{tree}"
    with server.client() as leaving:
        leaving.post(f"/api/agents{tree}/runs", json={"input": 7}, headers={"Idempotency-Key": key})
        run = leaving.post(f"/api/agents{tree}/b/runs", json={"input": 1}).json()["run_id"]
        with pytest.raises(httpx.ReadTimeout):
            leaving.get(f"/api/runs/{run}?wait=30", timeout=0.2)  # and hangs up
    assert ended(api, key)["result"] == 7
    assert api.get(f"/api/agents{tree}/b").json()["queued_runs"] == 1
    api.delete(f"/api/agents{tree}")


def test_a_wait_that_is_too_short_is_no_error(api: httpx.Client, tree: str) -> None:
    run_id = spawn(api, tree, input="for ever").json()["run_id"]
    begun = time.monotonic()
    answer = api.get(f"/api/runs/{run_id}?wait=0.2")
    assert answer.status_code == 200
    assert answer.json()["status"] in ("accepted", "queued", "running")
    assert time.monotonic() - begun >= 0.2
    api.delete(f"/api/agents{tree}")


def test_agents_are_listed_by_path_a_page_at_a_time(api: httpx.Client, tree: str) -> None:
    paths = [f"{tree}/{name}" for name in ("a", "b", "b/c", "d", "e")]
    for path in paths:
        spawn(api, path)
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = api.get("/api/agents", params={"under": tree, "limit": 2, **after}).json()
        found += [agent["path"] for agent in page["agents"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == paths
    some = api.get("/api/agents", params={"under": tree, "contains": "/b"}).json()
    assert [agent["path"] for agent in some["agents"]] == paths[1:3]
    assert some["next"] is None
    one = api.get("/api/agents", params={"under": tree, "contains": "/b", "limit": 1}).json()
    assert (len(one["agents"]), one["next"]) == (1, paths[1])
    api.post(f"/api/agents{tree}/d/close")
    closed = api.get("/api/agents", params={"under": tree, "status": "closed"}).json()["agents"]
    assert [agent["path"] for agent in closed] == [f"{tree}/d"]


def test_the_server_in_numbers(api: httpx.Client, tree: str) -> None:
    ended(api, spawn(api, tree, input=1).json()["run_id"])
    stats = api.get("/api/stats").json()
    assert stats["agents"] >= 1
    assert stats["slots"] == 8
    assert {"echo", "odd"} <= set(stats["server"]["kinds"])
    assert stats["server"]["events"]["run.completed"] >= 1
    assert stats["server"]["last_event"] >= 4
    metrics = api.get("/metrics").text
    for line in (
        "greenroom_agents ",
        'greenroom_events_total{type="run.completed"}',
        "greenroom_slots 8.0",
    ):
        assert f"\n{line}" in metrics
    assert 'route="/api/agents/{path}' in metrics or 'route="/api/agents"' in metrics


def test_a_full_backlog_is_429_and_says_when_to_try_again(serve: Callable[..., Served]) -> None:
    with serve("--backlog", "3").client() as api:
        spawn(api, "/t/a", "Stuck")
        answers = [api.post("/api/agents/t/a/runs", json={"input": n}) for n in range(6)]
        assert [answer.status_code for answer in answers][-1] == 429
        problem(answers[-1], 429, "backlog-full")
        assert answers[-1].headers["retry-after"] == "1"
        assert api.get("/api/agents/t/a").json()["queued_runs"] == sum(
            a.status_code == 202 for a in answers
        )


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "name"),
    [
        ("POST", "/api/agents", {"kind": "nobody", "path": "/x"}, 422, "unknown-kind"),
        ("POST", "/api/agents", {"kind": "echo", "path": "x"}, 422, "invalid-path"),
        ("POST", "/api/agents", {"kind": "echo", "path": "/X/../y"}, 422, "invalid-path"),
        ("POST", "/api/agents", {"kind": "echo"}, 422, "malformed"),
        ("POST", "/api/agents", {"kind": "echo", "path": "/x", "inputs": 1}, 422, "malformed"),
        ("POST", "/api/agents", {"kind": 1, "path": "/x"}, 422, "malformed"),
        ("POST", "/api/agents", {"kind": "echo", "path": "/x", "durability": "high"}, 422, "malformed"),
        ("POST", "/api/agents", [1], 422, "malformed"),
        ("POST", "/api/agents/x/runs", {"input": 1}, 404, "agent-not-found"),
        ("POST", "/api/agents/x/runs", {}, 422, "malformed"),
        ("POST", "/api/agents/x/runs", None, 422, "malformed"),
        ("POST", "/api/agents/x/messages", {"body": 1, "to": "y"}, 422, "malformed"),
        ("POST", "/api/agents/x/interrupt", {"cascade": "yes"}, 422, "malformed"),
        ("POST", "/api/agents/X/runs", {"input": 1}, 422, "invalid-path"),
        ("POST", "/api/agents/x%00y/runs", {"input": 1}, 422, "invalid-path"),
        ("POST", "/api/agents/x/%2E%2E/y/close", None, 422, "invalid-path"),
        ("POST", "/api/agents//runs", {"input": 1}, 422, "invalid-path"),
        ("POST", "/api/agents/x", {}, 405, "wrong-method"),
        ("PUT", "/api/agents/x/state", {}, 405, "wrong-method"),
        ("DELETE", "/api/agents/x", None, 404, "agent-not-found"),
        ("GET", "/api/agents?limit=0", None, 422, "malformed"),
        ("GET", "/api/agents?limit=1001", None, 422, "malformed"),
        ("GET", "/api/agents?limit=many", None, 422, "malformed"),
        ("GET", "/api/agents?status=busy", None, 422, "malformed"),
        ("GET", "/api/agents?under=x", None, 422, "invalid-path"),
        ("GET", "/api/agents?after=x", None, 422, "invalid-path"),
        ("GET", "/api/runs/none", None, 404, "run-not-found"),
        ("GET", "/api/runs/%0a", None, 404, "run-not-found"),
        ("GET", "/api/runs/none?wait=61", None, 422, "malformed"),
        ("GET", "/api/runs/none?wait=-1", None, 422, "malformed"),
        ("GET", "/api/runs/none?wait=nan", None, 422, "malformed"),
        ("GET", "/api/runs/none?wait=1e400", None, 422, "malformed"),
        ("GET", "/api/events?since=-1", None, 422, "malformed"),
        ("GET", "/api/events?type=RUN", None, 422, "malformed"),
        ("GET", "/api/nothing", None, 404, "no-such-address"),
        ("POST", "/api//agents/x/runs", {"input": 1}, 404, "no-such-address"),
        ("GET", "/api/openapi.json/x", None, 404, "no-such-address"),
        ("GET", "/../etc/passwd", None, 404, "no-such-address"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_recorded(
    api: httpx.Client, method: str, path: str, body: Any, status: int, name: str
) -> None:
    before = facts(api)
    headers = {"content-type": "application/json"} if body is not None else {}
    problem(
        api.request(method, path, content=None if body is None else json.dumps(body), headers=headers),
        status,
        name,
    )
    assert facts(api) == before


@pytest.mark.parametrize("key", [b"", b"x" * 201, b"tab\tin it", b"\x80"])
def test_a_key_that_is_no_run_id_is_refused(api: httpx.Client, tree: str, key: bytes) -> None:
    spawn(api, tree)
    before = facts(api)
    answer = api.post(f"/api/agents{tree}/runs", json={"input": 1}, headers={"Idempotency-Key": key})
    problem(answer, 422, "malformed")
    assert facts(api) == before


def test_a_key_where_there_is_no_run_is_refused_rather_than_ignored(api: httpx.Client, tree: str) -> None:
    key = {"Idempotency-Key": "k"}
    problem(api.post("/api/agents", json={"kind": "echo", "path": tree}, headers=key), 422, "malformed")
    spawn(api, tree)
    problem(api.post(f"/api/agents{tree}/messages", json={"body": 1}, headers=key), 422, "malformed")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"",
        b"\xff",
        b'{"input": "\xff"}',
        b'{"input": ' + b"[" * 100_000,
        b'{"input": NaN}',
        b"\x80\x05N.",
    ],
)
def test_a_body_that_is_no_json_is_refused(api: httpx.Client, tree: str, content: bytes) -> None:
    spawn(api, tree)
    before = facts(api)
    answer = api.post(
        f"/api/agents{tree}/runs", content=content, headers={"content-type": "application/json"}
    )
    problem(answer, 422, "malformed")
    assert facts(api) == before
