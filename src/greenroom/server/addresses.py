"""The meaning of a request's address: which agent, which of its resources; whose Host and Origin are ours.

**Agents in addresses.** `/api/agents/library/a/runs` means the runs of the agent `/library/a`: the last
segment is the resource if it is one of the words in `RESOURCES` and something comes before it. The part
before it is the agent. An agent may be called like such a word. Its path is then followed by the word
`self`, which may follow every path: `/api/agents/library/runs/self` is the agent `/library/runs`. The
address is split before it is decoded, so an encoded slash (`library%2Fruns`) never begins a segment.
Clients generated from the OpenAPI document encode it, and need no rule at all.
"""

import ipaddress
from urllib.parse import quote, unquote, urlsplit

from msgspec import Struct

SELF = "self"
RESOURCES = frozenset(
    {"runs", "messages", "state", "explain", "interrupt", "evict", "close", "pin", "unpin", SELF}
)

AGENTS, RUNS = "/api/agents/", "/api/runs/"

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class AgentAddress(Struct, frozen=True):
    """An agent's path as it was given (nothing of it is checked), and the resource, "" for the agent."""

    path: str
    resource: str


def agent_address(rest: str) -> AgentAddress:
    """The rest after `/api/agents/`, still encoded, as agent and resource."""
    segments = rest.split("/")
    resource = segments.pop() if len(segments) > 1 and segments[-1] in RESOURCES else ""
    path = unquote("/".join(segments))
    return AgentAddress(path if path.startswith("/") else f"/{path}", "" if resource == SELF else resource)


def routed(raw: str) -> str:
    """The encoded path of a request as the router gets it: an agent's path, or a run's id, in one segment.

    Such a segment begins with "=", so that one that was never rewritten is recognised.
    """
    if raw.startswith(AGENTS) and len(raw) > len(AGENTS):
        address = agent_address(raw[len(AGENTS) :])
        one = f"{AGENTS}={quote(address.path, safe='')}"
        return f"{one}/{address.resource}" if address.resource else one
    if raw.startswith(RUNS) and len(raw) > len(RUNS):
        return f"{RUNS}={quote(unquote(raw[len(RUNS) :]), safe='')}"
    return unquote(raw)


def from_segment(segment: str) -> str | None:
    """The path or id that `routed` put into one segment; None if it did not."""
    return unquote(segment[1:]) if segment.startswith("=") else None


def agent_url(path: str) -> str:
    """The address of the agent at `path`, in the form that is right for every path."""
    last = path.rpartition("/")[2]
    return f"/api/agents{path}/{SELF}" if last in RESOURCES else f"/api/agents{path}"


def run_url(run_id: str) -> str:
    """The address of a run."""
    return f"{RUNS}{quote(run_id, safe='')}"


# Host and Origin


class AllowedHosts(Struct, frozen=True):
    """By which names this server may be called. A page of another site cannot choose one of these.

    `names` are hosts without a port: ports are forwarded, and no page can choose a foreign name by its
    port. `addresses`: any literal IP address is one (no name, so no DNS, stands behind it).
    """

    names: frozenset[str] = LOOPBACK
    addresses: bool = False

    @classmethod
    def of(cls, host: str, also: tuple[str, ...] = ()) -> "AllowedHosts":
        """Those of a server that listens at `host` and is known by the names `also`."""
        names = LOOPBACK | {host.lower().strip("[]"), *(name.lower().strip("[]") for name in also)}
        return cls(names, addresses=host.strip("[]") not in LOOPBACK)

    def knows_host(self, header: str) -> bool:
        """Whether the Host header names this server."""
        name = _host(header)
        return name is not None and (name in self.names or (self.addresses and _is_address(name)))

    def knows_origin(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` is this server's own, which is called `host` by it."""
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _host(header: str) -> str | None:
    """The name in `name:port` or `[address]:port`, in small letters."""
    if header.startswith("["):
        name, bracket, port = header[1:].partition("]")
        port = port.removeprefix(":") if bracket and port[:1] in ("", ":") else "?"
    else:
        name, _, port = header.partition(":")
    return name.lower() if name and (not port or (port.isascii() and port.isdigit())) else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
