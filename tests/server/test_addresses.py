"""Which agent an address means, and whose Host and Origin are ours."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.server.addresses import (
    RESOURCES,
    AllowedHosts,
    agent_address,
    agent_url,
    from_segment,
    routed,
)

PLAIN = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True)
SEGMENT = st.one_of(PLAIN, st.sampled_from(sorted(RESOURCES)))
PATH = st.lists(SEGMENT, min_size=1, max_size=5).map(lambda names: "/" + "/".join(names))


@pytest.mark.parametrize(
    ("rest", "path", "resource"),
    [
        ("library/a", "/library/a", ""),
        ("library/a/runs", "/library/a", "runs"),
        ("library/runs/runs", "/library/runs", "runs"),
        ("library/runs/self", "/library/runs", ""),
        ("library%2Fruns", "/library/runs", ""),
        ("%2Flibrary%2Fruns/state", "/library/runs", "state"),
        ("runs", "/runs", ""),
        ("self", "/self", ""),
        ("self/self", "/self", ""),
        ("self/self/self", "/self/self", ""),
        ("library/a/", "/library/a/", ""),
        ("/runs", "/", "runs"),
        ("library/a/RUNS", "/library/a/RUNS", ""),
    ],
)
def test_what_an_address_means(rest: str, path: str, resource: str) -> None:
    found = agent_address(rest)
    assert (found.path, found.resource) == (path, resource)


@given(PATH)
def test_every_agent_has_an_address_and_no_two_share_one(path: str) -> None:
    """Whatever it is called: the address that the server tells means this agent and no resource."""
    found = agent_address(agent_url(path).removeprefix("/api/agents/"))
    assert (found.path, found.resource) == (path, "")


@given(PATH, st.sampled_from(sorted(RESOURCES - {"self"})))
def test_every_resource_of_every_agent_has_an_address(path: str, resource: str) -> None:
    assert agent_address(f"{path[1:]}/{resource}").path == path
    assert agent_address(f"{path[1:]}/{resource}").resource == resource


@given(PATH, st.sampled_from(["", *sorted(RESOURCES - {"self"})]))
def test_an_encoded_slash_makes_the_same_address_without_any_rule(path: str, resource: str) -> None:
    """What a client makes of the template `/api/agents/{path}/runs`, which encodes what it fills in."""
    filled = quote(path, safe="") + (f"/{resource}" if resource else "")
    found = agent_address(filled)
    assert (found.path, found.resource) == (path, resource)


@given(st.text(max_size=40))
def test_whatever_stands_in_an_address_reaches_the_handler_in_one_segment(text: str) -> None:
    segments = routed(f"/api/runs/{quote(text, safe='')}").split("/") if text else ["", "api", "runs", "="]
    assert len(segments) == 4
    assert from_segment(segments[3]) == text


def test_a_segment_that_was_never_rewritten_is_recognised() -> None:
    assert from_segment("library") is None


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost", "LOCALHOST:1", "[::1]:8321", "[::1]"])
def test_this_machine_is_known(host: str) -> None:
    assert AllowedHosts.of("127.0.0.1").knows_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost:80:80",
        "localhost@evil",
        "127.0.0.1:x",
        "192.168.0.1",
        "[::2]",
        "[::1]x",
        "[::1",
        "localhost,evil.example",
        "localhost:\u0661",
    ],
)
def test_nobody_else_is(host: str) -> None:
    assert not AllowedHosts.of("127.0.0.1").knows_host(host)


def test_a_server_for_others_is_known_by_its_addresses_and_by_the_names_it_was_given() -> None:
    ours = AllowedHosts.of("0.0.0.0", ("agents.example.org",))
    assert ours.knows_host("192.168.0.1:80")
    assert ours.knows_host("agents.example.org")
    assert not ours.knows_host("other.example.org")


@pytest.mark.parametrize(
    ("origin", "known"),
    [
        ("http://localhost:8321", True),
        ("https://localhost:8321", True),
        ("http://localhost:9000", False),
        ("http://evil.example", False),
        ("null", False),
        ("file://localhost:8321", False),
        ("http://localhost:8321@evil.example", False),
        ("http://[", False),
    ],
)
def test_only_its_own_pages_are_its_own(origin: str, known: bool) -> None:
    assert AllowedHosts.of("127.0.0.1").knows_origin(origin, "localhost:8321") is known
