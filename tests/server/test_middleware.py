"""Who comes in: requests that are refused leave a line in the log and nothing else."""

import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from greenroom.server.assets import CONTENT_SECURITY_POLICY

from .conftest import DEADLINE, Served, facts

EVERY_ADDRESS = [
    ("POST", "/api/agents"),
    ("GET", "/api/agents"),
    ("GET", "/api/agents/t"),
    ("DELETE", "/api/agents/t"),
    *((method, f"/api/agents/t/{word}") for method, word in [("GET", "state"), ("GET", "explain")]),
    *(
        ("POST", f"/api/agents/t/{word}")
        for word in ("runs", "messages", "interrupt", "evict", "close", "pin", "unpin")
    ),
    ("GET", "/api/runs/r"),
    ("GET", "/api/stats"),
    ("GET", "/api/events"),
    ("GET", "/api/tree"),
    ("GET", "/api/rows"),
    ("GET", "/api/now"),
    ("POST", "/api/tokens"),
    ("GET", "/api/openapi.json"),
    ("GET", "/metrics"),
    ("GET", "/api"),
    ("GET", "/nothing"),
    ("GET", "/healthz/"),
]
BODY = b'{"kind": "echo", "path": "/intruder", "input": 1, "tree": "t", "body": 1}'


def sent(server: Served, data: bytes) -> bytes:
    """What the server says to these bytes until it hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as client:
        client.sendall(data)
        answer = b""
        while part := client.recv(65_536):
            answer += part
    return answer


@pytest.fixture
def refused(server: Served, api: httpx.Client) -> Iterator[Callable[[httpx.Response, int, str], None]]:
    """Checks that a request was refused with a problem and logged, and that nothing was recorded."""
    before, logged = facts(api), len(server.logged())

    def check(answer: httpx.Response, status: int, name: str) -> None:
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:greenroom:problem:{name}")
        deadline = time.monotonic() + DEADLINE
        while (
            f" {status} {name}" not in server.logged()[logged:]
            and "more were refused" not in server.logged()
        ):
            assert time.monotonic() < deadline, "nothing was logged"
            # one that came too soon after many others is told with the next one that is
            api.get("/healthz", headers={"host": "another.example"})

    yield check
    assert facts(api) == before


def test_the_list_has_every_address_of_the_document(api: httpx.Client) -> None:
    """So that no address is forgotten in the tests below."""
    document = api.get("/api/openapi.json").json()
    found = {
        (method.upper(), re.sub(r"\{path}", "t", re.sub(r"\{run_id}", "r", path)))
        for path, item in document["paths"].items()
        for method in item
    }
    assert found - {("GET", "/healthz"), ("GET", "/readyz")} <= set(EVERY_ADDRESS)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of this module's own: strangers may not ask the common one as often."""
    served = Served(tmp_path_factory.mktemp("strict") / "agents.db")
    yield served
    served.kill()


@pytest.mark.parametrize(("method", "path"), EVERY_ADDRESS)
def test_nothing_is_done_without_a_token(strict: Served, method: str, path: str) -> None:
    headers = {"content-type": "application/json"}
    with strict.client() as owner:
        before = facts(owner)
        for token in ("", "wrong", strict.token[:-1], strict.token + "x", f"tree.t.{strict.token}"):
            with strict.client(token) as stranger:
                answer = stranger.request(method, path, content=BODY, headers=headers)
                if answer.status_code == 429:
                    continue
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Bearer")
        assert facts(owner) == before


def test_a_request_without_a_token_is_logged(server: Served, refused: Callable[..., None]) -> None:
    with server.client("") as stranger:
        refused(stranger.post("/api/agents", json={"kind": "echo", "path": "/x"}), 401, "no-token")


def test_strangers_may_not_ask_often_and_hold_up_nobody_who_may(strict: Served) -> None:
    asked = b"GET /api/stats HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = Counter(sent(strict, asked)[:13] for _ in range(400))
    assert answers[b"HTTP/1.1 401 "] >= 1
    assert answers[b"HTTP/1.1 429 "] >= 100
    with strict.client() as owner:
        assert owner.get("/api/stats").status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Host: localhost\r\nContent-Length: 90000", b"401"),
        (b"Host: localhost\r\nTransfer-Encoding: chunked", b"401"),
        (b"Host: evil.example\r\nContent-Length: 90000", b"421"),
        (b"Host: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 90000", b"403"),
        (b"Host: localhost\r\nAuthorization: Bearer TOKEN\r\nContent-Length: 9000000", b"413"),
        (b"Host: localhost\r\nAuthorization: Bearer TOKEN\r\nContent-Length: 90000", b"415"),
        (b"Host: localhost", b"401"),
    ],
)
def test_a_refused_request_is_hung_up_on_whatever_is_to_come_of_its_body(
    server: Served, head: bytes, status: bytes
) -> None:
    head = head.replace(b"TOKEN", server.token.encode())
    answer = sent(server, b"POST /api/agents HTTP/1.1\r\n" + head + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert b"\r\nconnection: close\r\n" in answer.lower()


def test_the_connection_of_a_client_with_a_token_outlives_a_refusal_without_a_body(
    server: Served,
) -> None:
    asked = "GET {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{}\r\n"
    twice = asked.format("/" + "a" * 9_000, server.token, "")
    twice += asked.format("/healthz", server.token, "Connection: close\r\n")
    answer = sent(server, twice.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"HTTP/1.1 200 " in answer


NINES = "9" * 4_301  # digits of which Python reads no number
NUMBERS = [
    NINES,
    f"-{NINES}",
    "9" * 19,
    "1e999",
    "nan",
    "inf",
    "0x1",
    "1_0",
    "\N{ARABIC-INDIC DIGIT THREE}",
]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    ("address", "query"),
    [("events", "since"), ("agents", "limit"), ("tree", "limit"), ("now", "limit"), ("runs/r", "wait")],
)
def test_a_number_that_is_none_or_too_large_is_malformed_and_no_bug(
    api: httpx.Client, address: str, query: str, number: str
) -> None:
    answer = api.get(f"/api/{address}", params={query: number, "follow": False})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:greenroom:problem:malformed")


@pytest.mark.parametrize("number", [NINES, f"-{NINES}", "1e999", "NaN", "Infinity"])
def test_a_number_in_a_body_that_no_double_holds_is_malformed_and_no_bug(
    api: httpx.Client, number: str
) -> None:
    body = f'{{"kind": "echo", "path": "/intruder", "input": {number}}}'
    answer = api.post("/api/agents", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:greenroom:problem:malformed")


def test_the_token_is_in_no_line_of_the_log(server: Served, api: httpx.Client) -> None:
    api.get("/api/nothing", params={"limit": "x"})
    assert server.token not in server.logged()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "localhost.evil.example", "192.168.1.1", ""]
)
@pytest.mark.parametrize("path", ["/api/agents", "/", "/healthz", "/api/events"])
def test_a_foreign_host_is_refused_everywhere(
    api: httpx.Client, refused: Callable[..., None], host: str, path: str
) -> None:
    """A name that was made to mean this machine (DNS rebinding) comes along as the Host."""
    refused(api.get(path, headers={"host": host}), 421, "foreign-host")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "https://127.0.0.1.evil"]
)
def test_pages_of_other_sites_are_refused(
    api: httpx.Client, refused: Callable[..., None], origin: str
) -> None:
    body = {"kind": "echo", "path": "/intruder"}
    refused(api.post("/api/agents", json=body, headers={"origin": origin}), 403, "foreign-origin")
    refused(api.get("/api/agents", headers={"origin": origin}), 403, "foreign-origin")


def test_a_cross_site_request_without_an_origin_is_refused(
    api: httpx.Client, refused: Callable[..., None]
) -> None:
    refused(api.get("/api/agents", headers={"sec-fetch-site": "cross-site"}), 403, "foreign-origin")


def test_its_own_page_and_a_link_to_it_are_welcome(server: Served, api: httpx.Client) -> None:
    assert api.get("/api/stats", headers={"origin": server.url}).status_code == 200
    assert api.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_a_page_of_another_site_can_read_no_answer(api: httpx.Client) -> None:
    """No address allows other origins to read it, or even to ask whether they may."""
    asked = api.options(
        "/api/agents", headers={"origin": "http://evil.example", "access-control-request-method": "POST"}
    )
    assert asked.status_code == 403
    for path in ("/", "/api/stats", "/healthz"):
        headers = api.get(path).headers
        assert not [name for name in headers if name.startswith("access-control")]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(
    api: httpx.Client, refused: Callable[..., None], chunked: bool
) -> None:
    large = b'{"kind": "echo", "path": "/intruder", "input": "' + b"x" * (1 << 20) + b'"}'
    content = iter([large[:500_000], large[500_000:]]) if chunked else large
    headers = {"content-type": "application/json"}
    refused(api.post("/api/agents", content=content, headers=headers), 413, "too-large")


def test_an_address_that_is_too_long_is_refused(api: httpx.Client, refused: Callable[..., None]) -> None:
    refused(api.get("/api/agents/" + "a/" * 5_000), 413, "too-large")
    refused(api.get("/api/agents", params={"contains": "a" * 9_000}), 413, "too-large")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "",
             "application/x-python-pickle", "text/plain; application/json"],
)  # fmt: skip
def test_a_body_that_does_not_say_that_it_is_json_is_refused(
    api: httpx.Client, refused: Callable[..., None], kind: str
) -> None:
    """What a form of another site can send without asking is none of these."""
    refused(api.post("/api/agents", content=BODY, headers={"content-type": kind}), 415, "not-json")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 40_000,
        b"GET /" + b"x" * 40_000,
        b"NONSENSE\r\n\r\n",
        b"POST /api/agents HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/agents HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_refused_and_hung_up_on(server: Served, api: httpx.Client, data: bytes) -> None:
    before = facts(api)
    answer = sent(server, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"urn:greenroom:problem:no-http" in answer
    assert "400 no-http" in server.logged()
    assert facts(api) == before


@pytest.mark.parametrize(
    ("request_line", "hosts", "status"),
    [
        (b"GET /healthz", [b"localhost", b"evil.example"], b"421"),
        (b"GET /healthz", [], b"421"),
        (b"GET //healthz", [b"localhost"], b"401"),
        (b"GET http://evil.example/healthz", [b"evil.example"], b"421"),
        (b"GET /api/../healthz", [b"localhost"], b"401"),
        (b"GET /index.html/../api/stats", [b"localhost"], b"401"),
        (b"HEAD /api/agents", [b"localhost"], b"401"),
        (b"OPTIONS *", [b"localhost"], b"401"),
    ],
)
def test_what_only_a_forged_request_says(
    server: Served, request_line: bytes, hosts: list[bytes], status: bytes
) -> None:
    head = b"".join(b"Host: %s\r\n" % host for host in hosts)
    answer = sent(server, request_line + b" HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status), answer


def test_a_token_may_not_ask_more_often_than_it_may(serve: Callable[..., Served]) -> None:
    with serve("--rate", "5").client() as api:
        answers = [api.get("/api/stats") for _ in range(40)]
        assert answers[0].status_code == 200
        late = [answer for answer in answers if answer.status_code == 429]
        assert late
        assert late[0].json()["type"] == "urn:greenroom:problem:too-often"
        assert int(late[0].headers["retry-after"]) >= 1


# Trees


@pytest.fixture
def alice(server: Served, api: httpx.Client) -> Iterator[httpx.Client]:
    """A client whose token is for the tree /alice; there are agents of /bob, too."""
    for path in ("/alice/a", "/bob/a"):
        api.post("/api/agents", json={"kind": "echo", "path": path})
    answer = api.post("/api/tokens", json={"tree": "alice"})
    with server.client(answer.json()["token"]) as client:
        yield client


def test_a_trees_token_reaches_its_tree(alice: httpx.Client) -> None:
    run = alice.post("/api/agents/alice/a/runs", json={"input": 1})
    assert run.status_code == 202
    assert alice.get(f"/api/runs/{run.json()['run_id']}?wait=30").json()["result"] == 1
    assert {agent["path"] for agent in alice.get("/api/agents").json()["agents"]} == {"/alice/a"}
    events = alice.get("/api/events?since=0&follow=false").text
    assert "/alice/a" in events
    assert "/bob" not in events


@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path.replace("/t", "/bob/a")) for method, path in EVERY_ADDRESS if "/agents/t" in path],
)
def test_paths_of_another_tree_are_refused(
    alice: httpx.Client, refused: Callable[..., None], method: str, path: str
) -> None:
    body = {"runs": b'{"input": 1}', "messages": b'{"body": 1}'}.get(path.rpartition("/")[2])
    headers = {"content-type": "application/json"} if body else {}
    refused(alice.request(method, path, content=body, headers=headers), 403, "out-of-reach")


def test_what_is_of_all_trees_is_out_of_reach(alice: httpx.Client, refused: Callable[..., None]) -> None:
    refused(alice.post("/api/agents", json={"kind": "echo", "path": "/bob/b"}), 403, "out-of-reach")
    refused(alice.get("/api/agents?under=/bob"), 403, "out-of-reach")
    refused(alice.get("/api/events?under=/bob"), 403, "out-of-reach")
    refused(alice.get("/api/stats"), 403, "out-of-reach")
    refused(alice.get("/metrics"), 403, "out-of-reach")
    refused(alice.post("/api/tokens", json={"tree": "bob"}), 403, "out-of-reach")


def test_a_tree_learns_nothing_of_anothers_runs(alice: httpx.Client, api: httpx.Client) -> None:
    key = {"Idempotency-Key": "bobs-own"}
    assert api.post("/api/agents/bob/a/runs", json={"input": 1}, headers=key).status_code == 202
    assert alice.get("/api/runs/bobs-own").json() == alice.get("/api/runs/none").json() | {
        "detail": alice.get("/api/runs/bobs-own").json()["detail"],
        "run_id": "bobs-own",
    }
    taken = alice.post("/api/agents/alice/a/runs", json={"input": 1}, headers=key)
    assert taken.status_code == 409
    assert "/bob" not in taken.text


def test_a_trees_token_is_told_of_no_agent_of_another_tree(serve: Callable[..., Served]) -> None:
    """All slots and all room are taken by another tree; no answer says by whom."""
    server = serve("--slots", "1", "--residents", "2", "--drain", "0")
    api = server.client()
    for name in ("secret-a", "secret-b"):
        api.post("/api/agents", json={"kind": "echo", "path": f"/bob/{name}", "input": "for ever"})
    api.post(
        "/api/agents",
        json={"kind": "echo", "path": "/bob/secret-c", "input": 1},
        headers={"Idempotency-Key": "bobs"},
    )
    for name in "ab":
        api.post("/api/agents", json={"kind": "echo", "path": f"/alice/{name}", "input": 1})
    deadline = time.monotonic() + DEADLINE
    while not api.get("/api/agents/alice/a/explain").json()["held_by"]:
        assert time.monotonic() < deadline
    alice = server.client(api.post("/api/tokens", json={"tree": "alice"}).json()["token"])
    assert alice.get("/api/agents/alice/a/explain").json()["waits_for"] in ("slot", "room")
    body = {"kind": "nothing", "path": "/alice/a", "input": 1, "body": 1, "tree": "bob"}
    told = ""
    for method, path in EVERY_ADDRESS:
        for agent in ("/alice/a", "/alice/b", "/bob/secret-a"):
            if method == "DELETE" or path.endswith("/close"):
                continue
            asked = path.replace("/t", agent, 1) if "/agents/t" in path else path
            for content in (body, {"kind": "echo", "path": "/alice/a"}, {"input": 1}, {"body": 1}, {}):
                json = content if method == "POST" else None
                key = {"Idempotency-Key": "bobs"} if path.endswith("/runs") else {}
                params = {"since": 0, "follow": False} if path == "/api/events" else {}
                answer = alice.request(method, asked, json=json, headers=key, params=params)
                told += answer.text.replace(agent, "") if "secret" in asked else answer.text
    assert "/alice/a" in told
    assert "secret" not in told
    assert "another tree" in told or "all taken" in told or "are needed" in told


# The dashboard's files


def test_the_page_is_served_without_a_token_and_may_load_nothing_of_others(server: Served) -> None:
    with server.client("") as anybody:
        page = anybody.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert "unsafe" not in CONTENT_SECURITY_POLICY
        assert page.headers["referrer-policy"] == "no-referrer"
        again = anybody.get("/", headers={"if-none-match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert anybody.get("/index.html").content == page.content
        assert anybody.head("/").content == b""


@pytest.mark.parametrize(
    "path", ["/../gate.py", "/%2e%2e/gate.py", "/gate.py", "/.hidden", "/__init__.py", "/dashboard"]
)
def test_nothing_else_is_a_file(api: httpx.Client, path: str) -> None:
    assert api.get(path).status_code == 404
