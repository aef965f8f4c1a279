"""A running `greenroom serve`, asked over HTTP.

Errors arrive as problem details and are told in the server's own words. An event stream that breaks off
is taken up again where it was.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import click
import httpx
import msgspec
from httpx_sse import SSEError, connect_sse

from ..actors.models import Event
from ..server.addresses import agent_url, run_url
from .answers import AgentAnswer, AgentsAnswer, RunAnswer, StateAnswer
from .client import Unavailable
from .text import tell

TIMEOUT = 30.0
"""Seconds for an answer that waits for nothing."""

STREAM_TIMEOUT_SECONDS = 60.0
"""Seconds without a heartbeat after which a stream is taken for broken."""

AGAIN = 1.0
"""Seconds before a broken stream is taken up again."""

WAIT_SECONDS = 30.0
"""Seconds that one request waits for a run."""

AGENTS_IN_REQUEST = 1000

T = TypeVar("T")


class NoServer(Unavailable):
    """Nobody answers at the address."""


class Remote:
    """Reading and changing, by the HTTP API."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Reading

    def agents(self, under: str, *, status: str | None, after: str | None, limit: int) -> AgentsAnswer:
        found = AgentsAnswer([], None)
        while len(found.agents) < limit:
            size = min(AGENTS_IN_REQUEST, limit - len(found.agents))
            asked = {"under": under, "limit": size, "status": status, "after": after}
            page = self._get(
                "/api/agents", AgentsAnswer, {name: value for name, value in asked.items() if value}
            )
            found = AgentsAnswer(found.agents + page.agents, page.next)
            after = page.next
            if after is None:
                break
        return found

    def agent(self, path: str) -> AgentAnswer:
        return self._get(agent_url(path), AgentAnswer)

    def state(self, path: str) -> StateAnswer:
        return self._get(f"{_of(path)}/state", StateAnswer)

    def run(self, run_id: str) -> RunAnswer:
        return self._get(run_url(run_id), RunAnswer)

    def stats(self) -> dict[str, Any]:
        return self._get("/api/stats", dict[str, Any])

    def last_event(self) -> int:
        return int(self.stats()["server"]["last_event"])

    def events(self, under: str, *, types: Sequence[str], since: int, follow: bool) -> Iterator[Event]:
        told = False
        while True:
            asked: list[tuple[str, str]] = [("under", under), ("since", str(since))]
            asked += [("follow", str(follow).lower()), *(("type", name) for name in types)]
            try:
                for event in self._stream(asked):
                    told = False
                    since = max(since, event.seq)
                    yield event
                if not follow:
                    return
            except (httpx.TransportError, SSEError) as error:
                if not follow:
                    raise self._unreachable(error) from error
            if not told:
                tell(f"{self._url} ended the stream; it is taken up again when it is back.", err=True)
                told = True
            time.sleep(AGAIN)

    def _stream(self, asked: list[tuple[str, str]]) -> Iterator[Event]:
        timeout = httpx.Timeout(TIMEOUT, read=STREAM_TIMEOUT_SECONDS)
        with connect_sse(self._http, "GET", "/api/events", params=asked, timeout=timeout) as source:
            if source.response.status_code != 200:
                source.response.read()
                raise _refusal(source.response)
            for news in source.iter_sse():
                if news.data:
                    yield msgspec.json.decode(news.data, type=Event)

    # Changing

    def send(self, path: str, body: object) -> None:
        self._post(f"{_of(path)}/messages", {"body": body})

    def followup(self, path: str, given: object, *, run_id: str | None) -> str:
        headers = {"idempotency-key": run_id} if run_id else {}
        answer = self._post(f"{_of(path)}/runs", {"input": given}, headers)
        return str(answer["run_id"])

    def wait(self, run_id: str, seconds: float) -> RunAnswer:
        wait = min(seconds, WAIT_SECONDS)
        return self._get(run_url(run_id), RunAnswer, {"wait": f"{wait:g}"}, timeout=wait + TIMEOUT)

    def interrupt(self, path: str, *, run_id: str | None, cascade: bool) -> bool:
        answer = self._post(f"{_of(path)}/interrupt", {"run_id": run_id, "cascade": cascade})
        return bool(answer["interrupted"])

    def close_agent(self, path: str, *, delete: bool) -> None:
        if delete:
            self._ask("DELETE", agent_url(path))
        else:
            self._post(f"{_of(path)}/close", None)

    # The way

    def _get(
        self, address: str, type: type[T], asked: dict[str, Any] | None = None, *, timeout: float = TIMEOUT
    ) -> T:
        response = self._ask("GET", address, params=asked, timeout=timeout)
        try:
            return msgspec.json.decode(response.content, type=type)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self._url} answers, but not as greenroom does: {error}") from error

    def _post(self, address: str, body: object, headers: dict[str, str] | None = None) -> dict[str, Any]:
        told = {"content-type": "application/json", **(headers or {})} if body is not None else headers
        content = msgspec.json.encode(body) if body is not None else None
        response = self._ask("POST", address, content=content, headers=told)
        answer: dict[str, Any] = msgspec.json.decode(response.content)
        return answer

    def _ask(self, method: str, address: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, address, **options)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        if response.is_success:
            return response
        raise _refusal(response)

    def _unreachable(self, error: Exception) -> Unavailable:
        if isinstance(error, httpx.ReadTimeout):
            return NoServer(
                f"{self._url} does not answer in time; what was asked may be done all the same."
            )
        why = str(error) or type(error).__name__
        return NoServer(f"no server answers at {self._url} ({why}). `greenroom serve` starts one.")


def _of(path: str) -> str:
    """The beginning of the addresses of an agent's resources."""
    return f"/api/agents{path}"


def _refusal(response: httpx.Response) -> Unavailable:
    """The server's description of itself."""
    try:
        detail = msgspec.json.decode(response.content, type=dict[str, Any])["detail"]
    except (msgspec.MsgspecError, KeyError):
        return Unavailable(f"{response.url} answers {response.status_code} {response.reason_phrase}.")
    if response.status_code == 401:
        return Unavailable(f"{detail} Give it with --token-file, or in GREENROOM_TOKEN.")
    return Unavailable(str(detail))


def split_link(url: str) -> tuple[str, str | None]:
    """A server's address, and the token if the link has one, as `greenroom serve` shows it."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise click.BadParameter(
            f"{url!r} is no address, such as http://127.0.0.1:8321", param_hint="--server"
        )
    token = parse_qs(parts.fragment).get("token", [None])[0]
    return f"{parts.scheme}://{parts.netloc}{quote(parts.path.rstrip('/'), safe='/%')}", token
