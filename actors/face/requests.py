"""The public calls as commands: what a caller gave is checked and turned into bytes here, at the call.

Both runtimes, blocking and asyncio, make their calls of these. A `Request` says whom to ask and makes the
command; everything that can be wrong with a value raises before anything is sent.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, get_args

from msgspec import Struct

from ...borders import plain, plain_int, shown, type_name
from ...errors import RunIdTaken
from ...paths import check_path, check_under
from ...persistence.codec import dumps
from ...persistence.rows import RunRow
from ...run_ids import is_reserved
from ...seconds import checked_timeout
from ...types import Address, AgentId, AgentStatus, Durability, Payload, RequestId, Role, RunId, Seconds
from ..agent.kind import kind_of
from ..directory.protocol import (
    CloseAgent,
    CloseTree,
    EvictPath,
    InterruptAgent,
    LocateAgent,
    PinPath,
    SpawnAgent,
    SubmitMessage,
    SubmitRun,
)
from ..events.protocol import Cursor, PullEvents
from ..ledger.descriptions import DescribeAgent, DescribeAgents, DescribeLedger, DescribeRun, DescribeState
from ..ledger.protocol import AwaitRun, AwaitRuns, InterruptTree
from ..processes.protocol import DescribePermits
from ..residency.protocol import DescribeResidency
from ..slots.protocol import DescribeSlots


class Unset:
    """The type of `UNSET`: no value was given, which is not the value None."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()

MOST_RUN_ID = 200
"""Characters of a run id."""


MOST_IN_PAGE = 1_000
"""Agents in one answer; longer lists are asked for in several."""

AGENTS_IN_PAGE = 1_000
"""Agents that are looked at in one step of a search among all; events that are handed over at once."""


class Request(Struct, frozen=True):
    """Whom to ask, and the command for a request number and the address that answers go to.

    `relayed`: the command says nothing of an address; it is answered to its sender. `reads`: it asks for
    nothing to be done, and can be asked of a runtime that closes. `input`: that of a run with an id of the
    caller's, to be compared with the recorded one if there is such a run (`refuse_other_input`).
    """

    to: Role
    make: Callable[[RequestId, Address], object]
    relayed: bool = False
    reads: bool = False
    input: Payload | None = None


class Encoded(Struct, frozen=True):
    """A value that is bytes already, as `AsyncRuntime` makes large ones aside."""

    data: Payload


def _payload(value: object, what: str) -> Payload:
    return value.data if type(value) is Encoded else dumps(value, what)


def spawn(
    kind: object,
    path: object,
    *,
    config: object,
    input: object,
    run_id: object,
    durability: object,
) -> Request:
    """`Runtime.spawn`."""
    where, level = check_path(path), _level(durability)
    found = kind_of(kind, where)
    settings = _payload(config, f"the config of {where}")
    first = None if input is UNSET else _payload(input, f"the input for {where}")
    if first is None and run_id is not None:
        raise ValueError("run_id= names the first run, which there is only with input=")
    named = _new_run_id(run_id)
    name, version = found.name, found.version
    return Request(
        "directory",
        lambda request, to: SpawnAgent(
            request, to, where, name, version, settings, first, named, durability=level
        ),
        input=first,
    )


def followup(path: str, input: object, *, run_id: object, durability: object) -> Request:
    """`AgentRef.followup`."""
    path = plain(path)
    payload, named, level = (
        _payload(input, f"the input for {path}"),
        _new_run_id(run_id),
        _level(durability),
    )
    return Request(
        "directory",
        lambda request, to: SubmitRun(request, to, path, payload, named, durability=level),
        input=payload,
    )


def send(path: str, body: object, *, durability: object) -> Request:
    """`AgentRef.send`."""
    path = plain(path)
    payload, level = _payload(body, f"the message to {path}"), _level(durability)
    return Request("directory", lambda request, to: SubmitMessage(request, to, path, payload, None, level))


def locate(path: object) -> Request:
    """`Runtime.agent`: whether there is such an agent, open or closed."""
    where = check_path(path)
    return Request(
        "directory", lambda request, to: LocateAgent(request, to, where, closed=True), reads=True
    )


def interrupt(path: str, run_id: object, *, cascade: bool) -> Request:
    """`AgentRef.interrupt` and `Run.interrupt`."""
    path = plain(path)
    if not isinstance(cascade, bool):
        raise TypeError(f"cascade= is True or False, not {shown(cascade)}")
    named, wide = _run_id(run_id), cascade
    return Request("directory", lambda request, to: InterruptAgent(request, to, path, named, wide))


def close(path: str, *, erase: bool) -> Request:
    """`AgentRef.close` and `AgentRef.delete`."""
    path = plain(path)
    return Request("directory", lambda request, to: CloseAgent(request, to, path, erase))


def interrupt_many(under: object) -> Request:
    """`Runtime.interrupt_many`."""
    where = check_under(under)
    return Request("ledger", lambda request, to: InterruptTree(request, to, where))


def close_many(under: object, *, erase: bool) -> Request:
    """`Runtime.close_many` and `Runtime.delete_many`."""
    where = check_under(under)
    return Request("directory", lambda request, to: CloseTree(request, to, where, erase))


def evict(path: str) -> Request:
    """`AgentRef.evict`."""
    path = plain(path)
    return Request("directory", lambda request, to: EvictPath(request, to, path))


def pin(path: str, *, pinned: bool) -> Request:
    """`AgentRef.pin` and `AgentRef.unpin`."""
    path = plain(path)
    return Request("directory", lambda request, to: PinPath(request, to, path, pinned))


def info(path: str) -> Request:
    """`AgentRef.info`."""
    path = plain(path)
    return Request("ledger", lambda request, to: DescribeAgent(request, to, path), reads=True)


def state(path: str) -> Request:
    """`AgentRef.state`."""
    path = plain(path)
    return Request("ledger", lambda request, to: DescribeState(request, to, path), reads=True)


def find_run(run_id: object) -> Request:
    """`Runtime.run` and `Run.status`."""
    named = _run_id(run_id)
    if named is None:
        raise TypeError("a run id is a str, not None")
    return Request("ledger", lambda request, to: DescribeRun(request, to, named), reads=True)


def await_run(run_id: str) -> Request:
    """`Run.outcome`."""
    named = RunId(plain(run_id))
    return Request("ledger", lambda request, to: AwaitRun(request, to, named), reads=True)


def await_runs(run_ids: tuple[str, ...], *, tell_sought: bool, look: bool) -> Request:
    """`Runtime.wait`: answered for each run as it ends."""
    named: tuple[RunId, ...] = run_ids  # type: ignore[assignment]
    return Request(
        "ledger", lambda request, to: AwaitRuns(request, to, named, tell_sought, look), reads=True
    )


def page(
    under: str,
    status: AgentStatus | None,
    after: str | None,
    limit: int,
    *,
    resident: bool = False,
    after_id: AgentId | None = None,
) -> Request:
    """One page of `Runtime.list`: of those with `status` there may be few among many, so look at many."""
    under, after = check_under(under), None if after is None else check_path(after)
    limit = min(plain_int(limit), MOST_IN_PAGE)
    status = None if status is None else plain(status)  # type: ignore[assignment]
    if status in ("idle", "failed"):
        limit = max(limit, AGENTS_IN_PAGE)
    return Request(
        "ledger",
        lambda request, to: DescribeAgents(request, to, under, status, after, limit, resident, after_id),
        reads=True,
    )


def pull(under: str, since: int | Cursor | None, *, wait: bool, limit: int = AGENTS_IN_PAGE) -> Request:
    """The next events of `Runtime.events`, at most `limit`."""
    under, since = check_under(under), plain_int(since) if isinstance(since, int) else since
    return Request("events", lambda n, to: PullEvents(n, to, under, since, limit, wait), reads=True)


def describe_ledger() -> Request:
    """The ledger's part of `Runtime.stats`."""
    return Request("ledger", DescribeLedger, reads=True)


def describe_residency(*agent_ids: AgentId) -> Request:
    """The residency's part of `Runtime.stats`, or of an agent's `explain`."""
    return Request("residency", lambda n, _: DescribeResidency(n, agent_ids), relayed=True, reads=True)


def describe_slots(agent_id: AgentId | None = None) -> Request:
    """The slots' part of the same."""
    return Request("slots", lambda n, _: DescribeSlots(n, agent_id), relayed=True, reads=True)


def describe_places(agent_id: AgentId) -> Request:
    """The permits that a process of the agent waits for."""
    return Request("supervisor", lambda n, to: DescribePermits(n, to, agent_id), reads=True)


# Ids that were given before


def recorded_input(call: Request, answer: Any) -> tuple[Payload, Payload] | None:
    """The recorded and the given input, if the run of an answered call was there before."""
    known: RunRow | None = answer.known
    return None if known is None or call.input is None else (known.input, call.input)


def refuse_other_input(answer: Any, differs: str | None) -> None:
    """Raise `RunIdTaken` if what was given differs from what is recorded: nothing was recorded anew."""
    if differs is not None:
        raise RunIdTaken(answer.known.run_id, answer.known.path, f"with another input: {differs}")


# The given arguments


def checked_list(
    under: object, status: object, limit: object, after: object, *, resident: object = False
) -> None:
    """Raise what is wrong with the arguments of `Runtime.list`."""
    check_under(under)
    if status is not None and not _is_one_of(status, get_args(AgentStatus)):
        raise ValueError(f"status= is one of {', '.join(get_args(AgentStatus))}, not {shown(status)}")
    if not isinstance(limit, int) or isinstance(limit, bool) or plain_int(limit) < 1:
        raise ValueError(f"limit= is an int from 1 on, not {shown(limit)}")
    if not isinstance(resident, bool):
        raise TypeError(f"resident= is True or False, not {shown(resident)}")
    if after is not None:
        check_path(after)


def checked_events(under: object, since: object, follow: object) -> None:
    """Raise what is wrong with the arguments of `Runtime.events`."""
    check_under(under)
    if not isinstance(follow, bool):
        raise TypeError(f"follow= is True or False, not {shown(follow)}")
    if since is not None and (
        not isinstance(since, int) or isinstance(since, bool) or not 0 <= plain_int(since) < 2**63
    ):
        raise ValueError(f"since= is the number of an event, from 0 on, not {shown(since)}")


def checked_wait(
    runs: Iterable[Any], timeout: object, until: object, run_type: type
) -> tuple[list[Any], Seconds | None]:
    """The runs as a list and the time-out, or what is wrong with the arguments of `Runtime.wait`."""
    listed = [runs] if isinstance(runs, run_type) else list(runs)
    for run in listed:
        if not isinstance(run, run_type):
            raise TypeError(f"wait() takes runs, not {shown(run)}")
    if not _is_one_of(until, ("all", "any")):
        raise ValueError(f"until= is 'all' or 'any', not {shown(until)}")
    return listed, checked_timeout(timeout)


def _is_one_of(word: object, words: tuple[str, ...]) -> bool:
    """Whether it is, whatever a subclass of str says of itself."""
    return isinstance(word, str) and plain(word) in words


def _run_id(run_id: object) -> RunId | None:
    if run_id is None:
        return None
    if not isinstance(run_id, str):
        raise TypeError(f"a run id is a str, not {type_name(run_id)}")
    run_id = plain(run_id)
    if not run_id or len(run_id) > MOST_RUN_ID:
        raise ValueError(f"a run id has 1 to {MOST_RUN_ID} characters, not {len(run_id)}")
    if not run_id.isprintable():
        raise ValueError(f"a run id has printable characters only, not {run_id!r}")
    return RunId(run_id)


def _new_run_id(run_id: object) -> RunId | None:
    """An id that a caller chose for a run, which may be there already."""
    named = _run_id(run_id)
    if named is not None and is_reserved(named):
        raise RunIdTaken.reserved(named)
    return named


def _level(durability: object) -> Durability | None:
    if durability is not None and not _is_one_of(durability, get_args(Durability)):
        raise ValueError(
            f"durability= is one of {', '.join(get_args(Durability))}, not {shown(durability)}"
        )
    return None if durability is None else plain(durability)  # type: ignore[return-value, arg-type]
