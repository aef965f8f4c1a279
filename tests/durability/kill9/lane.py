"""One thread of a worker: it asks for one thing after the other, and knows what it has asked before."""

import random
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from kinds import Outside
from record import Answered, Asks, Doubted, Log, Odd, Told

from greenroom import AgentClosed, AgentNotFound, PathTaken, Runtime, RuntimeClosing, StoreError

ROSTER = {
    "t": "kill-tally",
    "c": "kill-clerk",
    "p": "kill-parent",
    "f": "kill-fan",
    "o": "kill-once",
    "w": "kill-twice",
    "m": "kill-parent",  # mortal: closed or deleted now and then, with its children
    "n": "kill-fan",  # mortal
}
"""The kinds of a lane's agents, by the first letter of their names."""

MOST_ASKS = 50
"""Of one agent; then a new one takes its place, so that states stay small however long the trial is."""

MOST_OPEN = 10
"""Runs of a lane that it does not wait for."""

SETTLED = ("spawn", "run", "close", "delete")
"""Requests that are asked again until they are answered. A message has no id: it stays a perhaps."""

PAUSE = 0.05
"""Seconds before a request is asked again that met a store which cannot be written."""

LATE = 20
"""Seconds within which a run ends, unless the store cannot be written."""


class Lane:
    """One thread that asks, and knows from the log what it has asked before."""

    def __init__(
        self,
        runtime: Runtime,
        number: int,
        asked: Log,
        news: Log,
        *,
        life: int,
        rng: random.Random,
    ) -> None:
        self.runtime, self.number, self.asked, self.news = runtime, number, asked, news
        self.life, self.rng = life, rng
        self.tree = f"/lane{number}"
        self.box = f"{self.tree}/box"
        self.counts: dict[str, int] = {}  # asks, of each open agent
        self.made: dict[str, int] = {}  # agents, of each letter
        self.at: dict[str, str] = {}  # the path of each letter's open agent
        self.unanswered: Asks | None = None
        self.asks = 0
        self.named: deque[Asks] = deque(maxlen=30)  # runs asked lately
        self.open: deque[Any] = deque()

    # What was

    def remember(self, ask: Asks, answer: Answered | None) -> None:
        """A request of an earlier life, or of this one."""
        if answer is None:
            self.unanswered = ask
        elif answer.error is not None:
            pass  # nothing of it was recorded
        elif ask.do == "spawn":
            self.counts[ask.path] = 1
            self.at[ask.path.rpartition("/")[2][0]] = ask.path
        elif ask.do in ("close", "delete"):
            self.counts.pop(ask.path, None)
            self.at = {letter: path for letter, path in self.at.items() if path != ask.path}
        elif ask.path in self.counts:
            self.counts[ask.path] += 1
            if ask.do == "run":
                self.named.append(ask)

    # Asking

    def ask(self, do: Any, path: str, **what: Any) -> Any:
        """Note, ask, note the answer; raises `RuntimeClosing` only."""
        self.asks += 1
        return self.put(Asks(f"r{self.life}l{self.number}n{self.asks}", do, path, **what))

    def put(self, ask: Asks, *, again: bool = False) -> Any:
        if not again:
            self.asked.note(ask)
        while True:
            try:
                return self.answer_to(ask, again=again)
            except StoreError:
                self.asked.note(Doubted(ask.q))
                if ask.do not in SETTLED:
                    return None
                again = True
                threading.Event().wait(PAUSE)

    def answer_to(self, ask: Asks, *, again: bool) -> Any:
        value, error = None, None
        try:
            value = getattr(self, f"do_{ask.do}")(ask)
        except (PathTaken, AgentClosed, AgentNotFound) as raised:
            if not again:
                raise
            # It had been done. While the store is away that is known in memory, and may be lost.
            if self.runtime.stats().store_problem is not None:
                raise StoreError(str(self.runtime), "it is done, and not written yet") from raised
            value = "taken" if isinstance(raised, PathTaken) else type(raised).__name__
        except RuntimeClosing:
            if again:
                raise  # it may have been accepted the first time: this is no answer
            error = "RuntimeClosing"
        Outside.fate.passes("answer")
        answer = Answered(ask.q, time.time(), value, error)
        self.asked.note(answer)
        self.remember(ask, answer)
        if error is not None:
            raise RuntimeClosing
        return value

    def do_spawn(self, ask: Asks) -> Any:
        config = {"q": ask.q, "none": None}
        kind = ask.kind
        if ask.run_id is None:
            self.runtime.spawn(kind, ask.path, config=config)
            return True
        try:
            ref = self.runtime.spawn(kind, ask.path, config=config, input=ask.input, run_id=ask.run_id)
        except PathTaken:
            self.runtime.run(ask.run_id)  # accepted together, or neither was
            self.open.append(self.runtime.agent(ask.path).followup(ask.input, run_id=ask.run_id))
            raise
        self.open.append(ref.run)
        return ref.run.run_id

    def do_run(self, ask: Asks) -> Any:
        run = self.runtime.agent(ask.path).followup(ask.input, run_id=ask.run_id)
        self.open.append(run)
        return run.run_id

    def do_send(self, ask: Asks) -> None:
        self.runtime.agent(ask.path).send(ask.body.ljust(ask.size))

    def do_interrupt(self, ask: Asks) -> Any:
        return self.runtime.agent(ask.path).interrupt(ask.run_id, cascade=ask.cascade)

    def do_close(self, ask: Asks) -> None:
        self.runtime.agent(ask.path).close()

    def do_delete(self, ask: Asks) -> None:
        ref = self.runtime.agent(ask.path)
        if ref.info().status == "closed":  # of an agent before: ours was deleted, and nobody heard of it
            raise AgentClosed(ask.path)
        ref.delete()

    def do_evict(self, ask: Asks) -> Any:
        return self.runtime.agent(ask.path).evict()

    # The load

    def ask_again(self) -> None:
        """Settle what the last life left open."""
        ask = self.unanswered
        if ask is not None and ask.do in SETTLED:
            self.put(ask, again=True)

    def step(self) -> None:
        rng = self.rng
        if self.box not in self.counts:
            self.ask("spawn", self.box, kind="kill-tally")
        letter = rng.choice("tttttccppffooowwmmnn")
        path = self.at.get(letter)
        if path is None or self.counts[path] >= MOST_ASKS:
            self.spawn(letter)
        elif letter in "mn" and rng.random() < 0.3:
            self.ask(rng.choice(["close", "delete"]), path)
        else:
            action = rng.choices(
                [self.run, self.send, self.interrupt, self.evict, self.look, self.run_again],
                [10, 3, 2, 2, 1, 1],
            )[0]
            action(path, letter)
        while len(self.open) > MOST_OPEN or (self.open and rng.random() < 0.3):
            self.hear(self.open.popleft())

    def spawn(self, letter: str) -> None:
        mortal = letter in "mn"
        self.made[letter] = self.made.get(letter, -1) + 1
        name = letter if mortal else f"{letter}{self.life}x{self.made[letter]}"
        what: dict[str, Any] = {}
        if self.rng.random() < 0.5:
            what = self.order(letter)
        self.at.pop(letter, None)
        self.ask("spawn", f"{self.tree}/{name}", kind=ROSTER[letter], **what)
        self.at[letter] = f"{self.tree}/{name}"

    def order(self, letter: str) -> dict[str, Any]:
        """A run id and an input for an agent of this letter."""
        rng = self.rng
        name = f"r{self.life}l{self.number}n{self.asks + 1}"
        order: dict[str, Any] = {"token": name}
        if rng.random() < 0.6:
            order["pause"] = rng.choice([0.0, 0.001, 0.01, 0.05])
        if letter in "tc":
            order |= {what: self.box for what in ("half", "post") if rng.random() < 0.3}
            if rng.random() < 0.1:
                order["fail"] = "it was told to"
        elif letter in "ow":
            order["pause"] = rng.choice([0.0, 0.02, 0.1])
        elif letter in "pm" and rng.random() < 0.5:
            depth = rng.choice([1, 1, 2])
            order |= {"width": 2, "depth": depth, "name": name, "pause": rng.choice([0.0, 0.01])}
        elif letter in "fn" and rng.random() < 0.6:
            order |= {"width": rng.randint(1, 3), "pause": rng.choice([0.0, 0.01])}
        return {"run_id": f"run {name}", "input": order}

    def run(self, path: str, letter: str) -> None:
        for _ in range(self.rng.choice([1, 1, 2, 4])):
            self.ask("run", path, **self.order(letter))

    def run_again(self, path: str, letter: str) -> None:
        """A run id given twice is the same run."""
        known = [ask for ask in self.named if ask.path in self.counts and ask.path[-1] not in "mn"]
        if known:
            ask = self.rng.choice(known)
            try:
                run = self.runtime.agent(ask.path).followup(ask.input, run_id=ask.run_id)
            except StoreError:
                return
            if run.run_id != ask.run_id:
                self.odd(f"run id {ask.run_id} of {ask.path}, given again, is run {run.run_id}")

    def send(self, path: str, letter: str) -> None:
        to = path if self.rng.random() < 0.5 else self.box
        size = 200_000 if self.rng.random() < 0.1 else 0  # so that checkpoints of the log take a while
        self.ask("send", to, body=f"r{self.life}l{self.number}n{self.asks + 1}", size=size)

    def interrupt(self, path: str, letter: str) -> None:
        asked = [ask.run_id for ask in self.named if ask.path == path]
        run_id = self.rng.choice(asked) if asked and self.rng.random() < 0.6 else None
        cascade = self.rng.random() < 0.3
        self.ask("interrupt", path, run_id=run_id, cascade=cascade)

    def evict(self, path: str, letter: str) -> None:
        self.ask("evict", path)

    def look(self, path: str, letter: str) -> None:
        ref = self.runtime.agent(path)
        ref.info()
        ref.state()
        ref.explain()
        self.runtime.list(self.tree, status=self.rng.choice([None, "running", "idle", "closed"]))

    def hear(self, run: Any) -> None:
        for _ in range(LATE):
            try:
                outcome = run.outcome(timeout=1)
                break
            except TimeoutError:
                if self.runtime.stats().store_problem is not None:
                    self.open.append(run)
                    return
            except LookupError:  # its agent was deleted
                return
        else:
            self.odd(f"run {run.run_id} of {run.path} has not ended in {LATE} s: it is {run.status}")
            return
        self.news.note(Told(outcome.run_id, outcome.status, outcome.result, outcome.error, outcome.attempt))
        Outside.fate.passes("told")

    def odd(self, text: str) -> None:
        self.news.note(Odd(self.tree, text))

    def guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except RuntimeClosing:
            pass
        except BaseException:
            self.odd(traceback.format_exc())

    def live(self, stopping: threading.Event) -> None:
        def work() -> None:
            self.ask_again()
            while not stopping.is_set():
                self.step()

        self.guarded(work)
