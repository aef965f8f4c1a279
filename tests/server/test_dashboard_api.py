"""What a screen shows of many agents, over HTTP."""

import time
from typing import Any

import httpx

from .conftest import DEADLINE, Served


def spawn(api: httpx.Client, *paths: str, **more: Any) -> None:
    for path in paths:
        assert api.post("/api/agents", json={"kind": "echo", "path": path, **more}).status_code == 202


def children(api: httpx.Client, under: str, **more: Any) -> dict[str, Any]:
    answer = api.get("/api/tree", params={"under": under, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_branch_is_its_children_whatever_stands_below_them(api: httpx.Client, tree: str) -> None:
    spawn(
        api,
        f"{tree}/a",
        f"{tree}/a/x/deep",
        f"{tree}/a-b",
        f"{tree}/b/c",
        *(f"{tree}/b/{n}" for n in range(90)),
    )
    found = children(api, tree)
    assert [(c["path"], c["agent"] is not None, c["below"]) for c in found["children"]] == [
        (f"{tree}/a", True, True),
        (f"{tree}/a-b", True, False),
        (f"{tree}/b", False, True),
    ]
    assert found["next"] is None
    assert found["children"][0]["agent"]["kind"] == "echo"
    assert tree in [c["path"] for c in children(api, "/", limit=500)["children"]]
    assert children(api, f"{tree}/a-b")["children"] == []
    assert children(api, f"{tree}/nobody")["children"] == []


def test_a_branch_comes_in_pages(api: httpx.Client, tree: str) -> None:
    spawn(api, *(f"{tree}/{n:02}/below" for n in range(7)))
    found, after = [], None
    while True:
        page = children(api, tree, limit=3, **({"after": after} if after else {}))
        found.append([child["path"].rpartition("/")[2] for child in page["children"]])
        after = page["next"]
        if after is None:
            break
    assert found == [["00", "01", "02"], ["03", "04", "05"], ["06"]]


def test_rows_are_told_as_asked_for_and_unknown_ones_left_out(api: httpx.Client, tree: str) -> None:
    spawn(api, f"{tree}/a", f"{tree}/b")
    asked = [f"{tree}/b", f"{tree}/nobody", f"{tree}/a"]
    rows = api.get("/api/rows", params={"path": asked}).json()["agents"]
    assert [row["path"] for row in rows] == [f"{tree}/b", f"{tree}/a"]
    for wrong in ({}, {"path": ["no path"]}, {"path": ["/a"] * 201}):
        assert api.get("/api/rows", params=wrong).status_code == 422


def test_who_is_at_work_is_told_with_what_it_waits_for(api: httpx.Client, tree: str) -> None:
    spawn(api, *(f"{tree}/{n:02}" for n in range(10)), input="for ever")
    deadline = time.monotonic() + DEADLINE
    try:
        while True:
            found = api.get("/api/now", params={"under": tree}).json()
            waits = [each["explanation"]["waits_for"] for each in found["at_work"]]
            if waits == [None] * 8 + ["slot"] * 2:
                break
            assert time.monotonic() < deadline, found
        assert found["more"] is False
        assert [each["agent"]["status"] for each in found["at_work"]] == ["running"] * 8 + ["queued"] * 2
        assert set(found["at_work"][8]["explanation"]["held_by"]) <= set(
            api.get("/api/stats").json()["holders"]
        )
        few = api.get("/api/now", params={"under": tree, "limit": 3}).json()
        assert (len(few["at_work"]), few["more"]) == (3, True)
        resident = api.get("/api/agents", params={"under": tree, "resident": True}).json()["agents"]
        assert {f"{tree}/{n:02}" for n in range(8)} <= {row["path"] for row in resident}
        assert all(row["resident"] for row in resident)
    finally:
        for n in range(10):
            api.post(f"/api/agents{tree}/{n:02}/close")


def test_a_trees_token_sees_its_tree_alone(server: Served, api: httpx.Client, tree: str) -> None:
    spawn(api, f"{tree}/a", f"{tree}x/a")
    token = api.post("/api/tokens", json={"tree": tree[1:]}).json()["token"]
    guest = server.client(token)
    found = children(guest, "/")["children"]
    assert [(c["path"], c["agent"], c["below"]) for c in found] == [(tree, None, True)]
    assert [c["path"] for c in children(guest, tree)["children"]] == [f"{tree}/a"]
    assert guest.get("/api/now").status_code == 200
    for path in ("/api/tree?under=", "/api/now?under=", "/api/rows?path="):
        assert guest.get(f"{path}{tree}x").status_code == 403


def test_events_of_an_agent_alone_can_be_had(api: httpx.Client, tree: str) -> None:
    spawn(api, tree, f"{tree}/below")
    asked = {"under": tree, "since": 0, "follow": False, "type": "agent.spawned"}
    for below, count in ((True, 2), (False, 1)):
        told = api.get("/api/events", params={**asked, "below": below}).text
        assert told.count("event: agent.spawned") == count
