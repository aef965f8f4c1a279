"""Holds what a store says against what was asked, answered and told. Plain values in, findings out.

Each check is a generator of findings about one promise. A store is audited after every death, and once
more when all work is done (`over`): what must hold at any time is checked at both.
"""

from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct

from .facts import AgentFact, Facts, RunFact
from .record import Record, Request

ONCE = "kill-once"
"""A run of this kind may begin once."""

LIMITED = {"kill-twice": 2}
"""How many crashes may be held against a run of these kinds; of others, as many as there are."""

TOLD_BEFORE_WRITTEN = ("agent.evicted", "agent.reloaded")
"""Events that nobody builds on: a death may lose some that were heard, but gives no number again."""

NEVER_STORED = ("store.failing",)
"""Events that have the number of the one before."""

ENDS = ("completed", "failed", "interrupted")
CLOSED = "the runtime closed before its turn ended"


class Finding(Struct, frozen=True):
    """Something that is off. `check` names the promise, `who` the agent or run."""

    check: str
    who: str
    what: str


class Audit:
    """One comparison. The checks are the methods whose names begin with `check_`."""

    def __init__(self, record: Record, facts: Facts, *, lives: list[int], over: bool) -> None:
        """`lives`: the number of the last event of each life that is over."""
        self.record, self.facts, self.lives, self.over = record, facts, lives, over
        self.asked = {
            r.ask.run_id: r
            for r in record.requests.values()
            if r.ask.run_id and r.ask.do in ("spawn", "run")
        }
        self.ends = [r for r in record.requests.values() if r.ask.do in ("close", "delete")]
        self.erased = {e.path for e in facts.events if e.type == "agent.deleted"}
        self.ended = {run.run_id for run in facts.runs.values() if run.status in ENDS}
        self.runs_of: dict[int, list[RunFact]] = defaultdict(list)
        for run in sorted(facts.runs.values(), key=lambda run: run.serial):
            self.runs_of[run.agent_id].append(run)
        self.at: dict[str, list[AgentFact]] = defaultdict(list)
        for agent in facts.agents.values():
            self.at[agent.path].append(agent)
        self.started = defaultdict(list)
        for event in facts.events:
            if event.type == "run.started":
                self.started[event.run_id].append(event)

    def findings(self) -> list[Finding]:
        found = []
        for name in CHECKS:
            check: Callable[[], Iterator[tuple[str, str]]] = getattr(self, f"check_{name}")
            found += [Finding(name, who, what) for who, what in check()]
        return found

    def was_erased(self, path: str) -> bool:
        return any(path == erased or path.startswith(erased + "/") for erased in self.erased)

    # The file, and what the worker itself saw

    def check_file(self) -> Iterator[tuple[str, str]]:
        """The file is whole, and no row is left over of what is gone."""
        for wrong in self.facts.wrong:
            yield "the file", wrong

    def check_worker(self) -> Iterator[tuple[str, str]]:
        """Nothing that must not happen happened to the worker."""
        for odd in self.record.odd:
            yield odd.who, odd.text

    # Accepting

    def check_accepted(self) -> Iterator[tuple[str, str]]:
        """What was acknowledged is there, as it was asked; what was refused is not."""
        for run_id, request in self.asked.items():
            run, ask = self.facts.runs.get(run_id), request.ask
            if request.fate == "refused" and run is not None:
                yield ask.path, f"run {run_id} was refused, and is there"
            if request.fate == "done" and run is None and not self.was_erased(ask.path):
                yield ask.path, f"run {run_id} was acknowledged, and is not there"
            if run is not None and (run.path, run.input) != (ask.path, ask.input):
                yield ask.path, f"run {run_id} was asked with {ask.input}, and is {run.path} {run.input}"
            if request.fate == "done" and request.value not in (run_id, "taken"):
                yield ask.path, f"asked for run {run_id}, and was answered {request.value}"

    def check_agents(self) -> Iterator[tuple[str, str]]:
        """There are the agents that were spawned, as they were spawned, and none that was closed."""
        of_paths = defaultdict(list)
        for request in self.record.requests.values():
            if request.ask.do in ("spawn", "close", "delete"):
                of_paths[request.ask.path].append(request)
        for path, requests in of_paths.items():
            if any(request.fate == "perhaps" for request in requests):
                continue
            done = [request.ask for request in requests if request.fate == "done"]
            counts = Counter(ask.do for ask in done)
            agents = self.at[path]
            if len(agents) != counts["spawn"] - counts["delete"]:
                yield path, f"was spawned and deleted {dict(counts)} times, there are {len(agents)} agents"
            opened = [agent for agent in agents if agent.open]
            if len(opened) != counts["spawn"] - counts["delete"] - counts["close"]:
                yield path, f"was spawned and closed {dict(counts)} times, {len(opened)} are open"
            spawned = [ask for ask in done if ask.do == "spawn"]
            if opened and spawned:  # if it was not, that is told above
                if opened[0].config != {"q": spawned[-1].q, "none": None}:
                    yield path, f"has another's config: {opened[0].config}"
                if opened[0].kind != spawned[-1].kind:
                    yield path, f"has another's kind: {opened[0].kind}"

    def check_descendants(self) -> Iterator[tuple[str, str]]:
        """Nothing is open below an agent that was closed."""
        opened = {agent.path for agent in self.facts.agents.values() if agent.open}
        ended = {request.ask.path for request in self.ends if request.fate == "done"} - opened
        for path in opened:
            for above in ended:
                if path.startswith(above + "/"):
                    yield path, f"is open, and {above} above it was closed"

    # Outcomes

    def check_outcomes(self) -> Iterator[tuple[str, str]]:
        """Every run has one acceptance, and one outcome with one event of the same kind, or none yet."""
        accepted, ended = Counter[str](), defaultdict(list)
        paths = {}
        for event in self.facts.events:
            if event.run_id is None:
                continue
            paths[event.run_id] = event.path
            what = event.type.removeprefix("run.")
            if what == "accepted":
                accepted[event.run_id] += 1
            elif what in ENDS:
                ended[event.run_id].append(what)
        for run_id in paths.keys() | self.facts.runs.keys():
            run = self.facts.runs.get(run_id)
            where = run.path if run else paths[run_id]
            if accepted[run_id] != 1:
                yield where, f"run {run_id} has {accepted[run_id]} events run.accepted"
            if run is None and not self.was_erased(where):
                yield where, f"run {run_id} has events, and is not there"
            wanted = 1 if run is None or run.status in ENDS else 0
            if len(ended[run_id]) != wanted:
                yield where, f"run {run_id} should have {wanted} terminal events, and has {ended[run_id]}"
            elif run is not None and wanted and ended[run_id] != [run.status]:
                yield where, f"run {run_id} is {run.status}, and its event says {ended[run_id]}"
            if run is not None and self.over and run.status not in ENDS:
                yield where, f"run {run_id} was accepted, all is done, and it has no outcome"

    def check_told(self) -> Iterator[tuple[str, str]]:
        """What somebody was told stays so: outcomes, and events, which a follower hears all in order."""
        for told in self.record.told:
            run = self.facts.runs.get(told.run_id)
            if run is None:
                continue  # erased; `check_accepted` says if not
            is_so = (run.status, run.result, run.error, run.attempt)
            if is_so != (told.status, told.result, told.error, told.attempt):
                yield run.path, f"run {told.run_id} was told to have ended as {told}, and is {run}"
        told_of = [event for event in self.record.heard if event.type not in NEVER_STORED]
        heard = {event.seq: (event.type, event.path, event.run_id) for event in told_of}
        if [event.seq for event in told_of] != sorted(heard):
            yield "the follower", "heard events out of order, or twice"
        real = {event.seq: (event.type, event.path, event.run_id) for event in self.facts.events}
        erased = _lives_of_deleted({**heard, **real})
        for seq, event in heard.items():
            lost = seq not in real and event[0] in TOLD_BEFORE_WRITTEN
            gone = seq not in real and any(low <= seq < high for low, high in erased.get(event[1], ()))
            if real.get(seq) != event and not lost and not gone:
                yield event[1], f"a follower heard {seq} {event}, and the store has {real.get(seq)}"
        last = max(heard, default=0)
        for seq, event in real.items():
            if seq < last and seq not in heard:
                yield event[1], f"a follower did not hear {seq} {event}"

    def check_reasons(self) -> Iterator[tuple[str, str]]:
        """No run failed or was interrupted but those that had a reason to."""
        stops = [r for r in self.record.requests.values() if r.ask.do == "interrupt"]
        for run in self.facts.runs.values():
            if run.status == "failed":
                kind = self.facts.agents[run.agent_id].kind
                limited = kind == ONCE or kind in LIMITED
                reason = "attempts" if limited else run.input.get("fail")
                if reason is None or reason not in str(run.error):
                    yield run.path, f"run {run.run_id} failed: {run.error}"
            elif run.status == "interrupted" and run.error != CLOSED:
                asked = self.asked.get(run.run_id)
                if not any(_covers(stop, run, asked) for stop in (*stops, *self.ends)):
                    yield run.path, f"run {run.run_id} was interrupted by nobody: {run.error}"

    # Counting

    def check_counts(self) -> Iterator[tuple[str, str]]:
        """Each agent's state has counted its completed runs, each once, in the order of acceptance."""
        for agent in self.facts.agents.values():
            runs = self.runs_of[agent.agent_id]
            completed = [run.run_id for run in runs if run.status == "completed"]
            state = agent.state or {"count": 0, "seen": []}
            seen = [run_id for run_id, _ in state["seen"]]
            if agent.kind == "kill-fan":  # a continuation begins when it can, and not in its place
                completed.sort()
                seen.sort()
            if seen != completed or state["count"] != len(completed):
                yield agent.path, f"has completed {len(completed)} runs and counted {state['count']}"
                yield agent.path, f"counted too often: {_surplus(seen, completed)}"
                yield agent.path, f"did not count: {_surplus(completed, seen)}"
                yield agent.path, f"the order is {seen}, should be {completed}"
            results = [self.facts.runs[run_id].result for run_id, _ in state["seen"] if run_id in completed]
            if results != [{"run": r, "count": n} for n, (r, _) in enumerate(state["seen"], 1)]:
                yield agent.path, "the results of its runs do not say what it counted"
            for token, times in Counter(run.input["token"] for run in runs).items():
                if times > 1:
                    yield agent.path, f"was given {token} {times} times"

    # Messages

    def check_messages(self) -> Iterator[tuple[str, str]]:
        """A message is read by one committed turn, or still waits: acknowledged ones surely."""
        read, waiting = defaultdict(Counter), defaultdict(Counter)
        for agent in self.facts.agents.values():
            read[agent.path].update((agent.state or {}).get("read", ()))
            waiting[agent.path].update(agent.inbox)
        known = set()
        for path, body, fewest, most in self.messages():
            known.add((path, body))
            times = read[path][body] + waiting[path][body]
            if not fewest <= times <= most:
                yield path, f"message {body} should be there {fewest} to {most} times, is {times}"
        for path in read:
            for body in read[path] + waiting[path]:
                if (path, body) not in known:
                    yield path, f"message {body} was never sent"
        for agent in self.facts.agents.values():
            if self.over and agent.open and agent.inbox:
                yield agent.path, f"messages {agent.inbox} were never read"
            order = [*(agent.state or {}).get("read", ()), *agent.inbox]
            of_lane = defaultdict(list)
            for body in order:
                if (request := self.record.requests.get(body)) is not None:
                    of_lane[body.partition("l")[2][0]].append(request.asked)
            for lane, numbers in of_lane.items():
                if numbers != sorted(numbers):
                    yield agent.path, f"messages of lane {lane} were not read in order: {order}"

    def messages(self) -> Iterator[tuple[str, str, int, int]]:
        """Each message that may be: its agent's path, its body, how often it has to be there."""
        for q, request in self.record.requests.items():
            if request.ask.do == "send":
                sure = request.fate == "done" and not self.was_erased(request.ask.path)
                yield request.ask.path, q, int(sure), int(request.fate != "refused")
        for run in self.facts.runs.values():
            if "post" in run.input:
                sent = int(run.status == "completed")
                yield run.input["post"], f"{run.run_id}/post", sent, sent
            if "half" in run.input:
                half = ((self.facts.agents[run.agent_id].state or {}).get("half", ())).count(run.run_id)
                sent = min(half, 1)
                if half > 1:
                    yield run.path, f"{run.run_id}/half, of which the state says {half},", 1, 1
                yield run.input["half"], f"{run.run_id}/half", sent, sent

    # What turns start

    def check_families(self) -> Iterator[tuple[str, str]]:
        """A turn begun again spawns and starts nothing twice, and all that it waited for is so."""
        for agent in self.facts.agents.values():
            if agent.kind != "kill-parent":
                continue
            families = Counter(run_id for run_id, _ in (agent.state or {}).get("family", ()))
            for run in self.runs_of[agent.agent_id]:
                width = run.input.get("width", 0)
                wanted = 1 if width and run.status == "completed" else 0
                if families[run.run_id] != wanted:
                    yield agent.path, f"run {run.run_id} took down {families[run.run_id]} families"
                for number in range(width):
                    yield from self.child(run, number)
            for run_id, outcomes in (agent.state or {}).get("family", ()):
                yield from self.told_in_turn(agent, run_id, outcomes)

    def child(self, run: RunFact, number: int) -> Iterator[tuple[str, str]]:
        path = f"{run.path}/{run.input['name']}-{number}"
        children = self.at[path]
        if len(children) > 1:
            yield path, f"was spawned {len(children)} times by run {run.run_id}"
        if run.status == "completed" and not children:
            yield path, f"is not there, and run {run.run_id} that spawned it has completed"
        given = Counter(r.input["token"] for child in children for r in self.runs_of[child.agent_id])
        for part in "ab" if run.status == "completed" else "":
            token = f"{run.input['token']}-{number}{part}"
            if given[token] != 1:
                yield path, f"was given {token} {given[token]} times by run {run.run_id}"

    def check_continuations(self) -> Iterator[tuple[str, str]]:
        """A run that ended with `after` has one continuation, which saw all outcomes, once."""
        continued = Counter(run.input["of"] for run in self.facts.runs.values() if "of" in run.input)
        for agent in self.facts.agents.values():
            if agent.kind != "kill-fan":
                continue
            joined = Counter(run_id for run_id, _ in (agent.state or {}).get("joined", ()))
            for run in self.runs_of[agent.agent_id]:
                wanted = 1 if run.input.get("width") and run.status == "completed" else 0
                if continued[run.run_id] != wanted:
                    yield agent.path, f"run {run.run_id} has {continued[run.run_id]} continuations"
                if "of" in run.input:
                    times = 1 if run.status == "completed" else 0
                    if joined[run.input["of"]] != times:
                        yield agent.path, f"{run} went on {joined[run.input['of']]} times"
                    open_runs = [other for other in run.awaits if other not in self.ended]
                    if run.status != "accepted" and run.attempt and open_runs:
                        yield agent.path, f"run {run.run_id} went on before all had ended"
            for run_id, outcomes in (agent.state or {}).get("joined", ()):
                first = self.facts.runs.get(run_id)
                if first is None or len(outcomes) != first.input["width"]:
                    yield agent.path, f"run {run_id} went on with {len(outcomes)} outcomes, and is {first}"
                yield from self.told_in_turn(agent, run_id, outcomes)

    def told_in_turn(
        self, agent: AgentFact, run_id: str, outcomes: Iterable[Any]
    ) -> Iterator[tuple[str, str]]:
        for other, status, result in outcomes:
            run = self.facts.runs.get(other)
            if run is None or (run.status, run.result) != (status, result):
                yield agent.path, f"run {run_id} was told that {other} is {status} {result}; it is {run}"

    # Beginning

    def check_attempts(self) -> Iterator[tuple[str, str]]:
        """Each beginning is counted, and a run that was given up says so: it was cut off too often."""
        failures = {event.run_id: event for event in self.facts.events if event.type == "run.failed"}
        for run in self.facts.runs.values():
            kind = self.facts.agents[run.agent_id].kind
            once, limit = kind == ONCE, LIMITED.get(kind)
            times = self.record.begun[run.run_id]
            if once and times > 1:
                yield run.path, f"run {run.run_id} began {times} times, and may begin once"
            if times > run.attempt:
                yield run.path, f"run {run.run_id} began {times} times, and counts {run.attempt}"
            if run.status == "completed" and not times:
                yield run.path, f"run {run.run_id} is completed, and never began"
            if (once or limit is not None) and run.status == "failed":
                data = failures[run.run_id].data if run.run_id in failures else {}
                if not data.get("recovered") or data.get("error") != run.error:
                    yield run.path, f"run {run.run_id} failed, and its event says {data}"
                if run.error_type != ("CutOff" if once else "Crashed"):
                    yield run.path, f"run {run.run_id} was given up as {run.error_type}"
                if limit is not None and (run.crashes != limit or run.attempt < limit + 2):
                    yield run.path, f"{run} was given up, and {limit} crashes are to be held against it"

    def check_blame(self) -> Iterator[tuple[str, str]]:
        """A crash is held against one run at most."""
        blamed = {run.run_id: run.crashes for run in self.facts.runs.values() if run.crashes}
        if sum(blamed.values()) > len(self.lives):
            yield "the store", f"has had {len(self.lives)} deaths, and holds more against runs: {blamed}"

    def check_beginnings(self) -> Iterator[tuple[str, str]]:
        """Events tell each beginning, with its attempt, and whether the run is from an earlier life."""
        accepted = {e.run_id: e.seq for e in self.facts.events if e.type == "run.accepted"}
        for run_id, started in self.started.items():
            attempts = [event.data["attempt"] for event in started]
            where = started[0].path
            if attempts != sorted(attempts):
                yield where, f"run {run_id} began as attempts {attempts}"
            for event in started:
                recovered = bisect(self.lives, accepted.get(run_id, 0) - 1) < bisect(
                    self.lives, event.seq - 1
                )
                if bool(event.data.get("recovered")) != recovered:
                    yield (
                        where,
                        f"run {run_id} is {'' if recovered else 'not '}recovered, and {event} is told",
                    )
            run = self.facts.runs.get(run_id)  # type: ignore[arg-type]
            # one that was called off before its code began is told, and not counted
            if run is not None and run.status in ENDS and not 0 <= attempts[-1] - run.attempt <= 1:
                yield where, f"run {run_id} ended as attempt {run.attempt}, and began as {attempts}"

    def check_interrupts(self) -> Iterator[tuple[str, str]]:
        """A run whose interrupt was acknowledged does not begin again."""
        for request in self.record.requests.values():
            ask = request.ask
            if ask.do != "interrupt" or request.value is not True or ask.run_id is None:
                continue
            for event in self.started[ask.run_id]:
                if event.at > request.at:
                    yield (
                        ask.path,
                        (
                            f"run {ask.run_id} was interrupted, was answered so, and then began as "
                            f"attempt {event.data['attempt']}"
                        ),
                    )


CHECKS = tuple(name.removeprefix("check_") for name in vars(Audit) if name.startswith("check_"))


def _lives_of_deleted(events: dict[int, tuple[str, str, str | None]]) -> dict[str, list[tuple[int, int]]]:
    """By path, the numbers of events between the spawn of each deleted agent and its deletion."""
    spawned: dict[str, int] = {}
    lives: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for seq, (kind, path, _) in sorted(events.items()):
        if kind == "agent.spawned":
            spawned[path] = seq
        elif kind == "agent.deleted":
            lives[path].append((spawned.get(path, 0), seq))
    return lives


def _covers(stop: Request, run: RunFact, asked: Request | None) -> bool:
    """Whether this interrupt or end may be why `run` was interrupted."""
    ask = stop.ask
    below = run.path.startswith(ask.path + "/")
    if run.path == ask.path:
        named = ask.run_id is None or ask.run_id == run.run_id
    else:
        named = below and (ask.cascade or ask.do != "interrupt")
    late = asked is not None and stop.answered is not None and asked.asked > stop.answered
    return named and stop.fate != "refused" and not late


def _surplus(these: list[str], those: list[str]) -> list[str]:
    return sorted((Counter(these) - Counter(those)).elements())
