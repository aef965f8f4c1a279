"""A story that uses everything a store records, told by a client that knows how to go on.

The client notes each step before it asks for it and after it was answered, as any careful client would:
what was answered it never asks again; what was asked and not answered it asks once more. So wherever the
story is cut off, it comes to the same end, or something was lost or done twice.

Every state is JSON, so that it can be read at rest.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any
from zlib import crc32

from greenroom import AgentClosed, AgentNotFound, PathTaken, Runtime, Turn, agent

PATIENCE = 600.0
"""Seconds after which a wait has failed."""

OPTIONS: dict[str, Any] = {"slots": 2, "residents": 3}
"""Of the runtime: little room, so that agents come and go."""

Note = Callable[[str, str, Any], None]
"""Told `"asks"` or `"told"`, the step, and its value."""

hanging = threading.Event()


@agent(name="story-counter", codec="json", attempts=100)
async def counter(turn: Turn) -> int:
    """Keeps what it was given and what it read; fails for "boom"."""
    given = turn.state.setdefault("given", [])
    given.append(turn.input)
    turn.state.setdefault("read", []).extend(message.body for message in turn.inbox)
    turn.emit("given", turn.input)
    if turn.input == "boom":
        raise ValueError("boom")
    return len(given)


@agent(name="story-parent", codec="json", attempts=100)
async def parent(turn: Turn) -> Any:
    """A checkpoint with a message, a child, a nested wait, a message at the end, and a fan-in."""
    if turn.results:
        turn.state["fan"] = [outcome.result for outcome in turn.results]
        await turn.send("/story/box", "fan")
        return turn.state["fan"]
    if "checked" not in turn.state:
        turn.state["checked"] = turn.input
        await turn.send("/story/box", "checked")
        await turn.checkpoint()
    child = await turn.spawn(counter, "child", config={"of": turn.path, "none": None})
    first = await child.followup("first")
    (nested,) = await turn.wait(first)
    second = await child.followup("second")
    await turn.send("/story/box", "ended")
    turn.state["nested"] = nested.result
    return (await turn.after(first, second, input="fan")).run_id


@agent(name="story-hangs", codec="json", attempts=100)
async def hangs(turn: Turn) -> None:
    """Works until it is interrupted; what it did to its state goes with it."""
    turn.state["torn"] = True
    hanging.set()
    await asyncio.Event().wait()


def careful(step: str) -> str | None:
    """The durability that a client asks for who wants about half of its calls to survive a power cut."""
    verb = step.split(maxsplit=1)[0]
    return "power" if verb in ("spawn", "followup", "send") and crc32(step.encode()) % 2 else None


class Client:
    """Tells the story to a runtime, from where it was cut off.

    `done` holds what was answered in earlier lives, by step. `level` says which durability a step asks
    for.
    """

    def __init__(
        self,
        runtime: Runtime,
        note: Note,
        done: dict[str, Any],
        level: Callable[[str], str | None] | None = None,
    ) -> None:
        self.runtime, self.note, self.done = runtime, note, done
        self.level = level or (lambda _step: None)
        self._sent: dict[str, int] = {}

    def step(self, name: str, ask: Callable[[], Any]) -> Any:
        if name in self.done:
            return self.done[name]
        self.note("asks", name, None)
        value = ask()
        self.note("told", name, value)
        self.done[name] = value
        return value

    # What can be asked, each so that asking again does it once. A step's name is a verb and its objects.

    def spawn(self, kind: Any, path: str, first: str | None = None, config: Any = None) -> None:
        work = {} if first is None else {"input": first, "run_id": first}
        step = f"spawn {path} {first or ''}".strip()

        def ask() -> None:
            try:
                self.runtime.spawn(kind, path, config=config, durability=self.level(step), **work)
            except PathTaken:
                assert first is None or self.runtime.run(first), "the agent is there, its run is not"

        self.step(step, ask)

    def followup(self, path: str, run_id: str, value: str | None = None) -> None:
        step = f"followup {path} {run_id}"

        def ask() -> None:
            ref = self.runtime.agent(path)
            ref.followup(value or run_id, run_id=run_id, durability=self.level(step))

        self.step(step, ask)

    def send(self, path: str, body: str) -> None:
        """A message has no id: what tells whether it was accepted is its event."""
        before = self._sent.get(path, 0)
        self._sent[path] = before + 1
        step = f"send {path} {body}"

        def ask() -> None:
            accepted = [
                event
                for event in self.runtime.events(path, follow=False)
                if event.type == "message.accepted" and event.path == path and event.data["sender"] is None
            ]
            if len(accepted) == before:
                self.runtime.agent(path).send(body, durability=self.level(step))

        self.step(step, ask)

    def outcome(self, run_id: str) -> Any:
        def ask() -> list[Any]:
            outcome = self.runtime.run(run_id).outcome(timeout=PATIENCE)
            return [outcome.status, outcome.result]

        return self.step(f"outcome {run_id}", ask)

    def interrupt(self, run_id: str) -> None:
        self.step(f"interrupt {run_id}", lambda: self.runtime.run(run_id).interrupt() and None)

    def evict(self, path: str) -> None:
        self.step(f"evict {path}", lambda: self.runtime.agent(path).evict() and None)

    def close(self, path: str, *, erase: bool = False) -> None:
        def ask() -> None:
            try:
                ref = self.runtime.agent(path)
                ref.delete() if erase else ref.close()
            except (AgentNotFound, AgentClosed):
                pass  # it was done, only not answered

        self.step(f"{'delete' if erase else 'close'} {path}", ask)

    def hear(self, part: str) -> None:
        """Note the events so far: what was told once stays as it was told."""
        self.step(
            f"hear {part}",
            lambda: [
                [event.seq, event.type, event.path, event.run_id]
                for event in self.runtime.events("/", follow=False)
            ],
        )

    def stuck(self, run_id: str) -> None:
        """Wait until a turn hangs, unless what comes next has ended it in an earlier life."""
        if f"outcome {run_id}" not in self.done and not self.runtime.run(run_id).done():
            assert hanging.wait(PATIENCE)
            hanging.clear()


def tell(client: Client) -> None:
    """The whole story."""
    client.spawn(counter, "/story/a", "a-0", config={"k": 1, "none": None})
    for number in (1, 2, 3):
        client.followup("/story/a", f"a-{number}")
    client.send("/story/a", "to a")
    client.outcome("a-3")
    client.followup("/story/a", "a-boom", "boom")  # fails, and leaves the message unread
    client.outcome("a-boom")
    client.hear("a")

    client.spawn(counter, "/story/box")
    client.send("/story/box", "outside")
    client.spawn(parent, "/story/p", "p-0")
    _, continuation = client.outcome("p-0")
    client.outcome(continuation)
    client.hear("p")

    client.spawn(hangs, "/story/h", "h-0")
    client.stuck("h-0")
    client.interrupt("h-0")
    client.outcome("h-0")
    client.followup("/story/h", "h-1")
    client.followup("/story/h", "h-2")
    client.stuck("h-1")
    client.close("/story/h")
    client.outcome("h-2")
    client.spawn(counter, "/story/h/below", "h-3")  # its path is free again, and so are those below
    client.outcome("h-3")

    client.evict("/story/h/below")
    client.followup("/story/a", "a-4")
    client.outcome("a-4")
    client.spawn(counter, "/story/d", "d-0")
    client.send("/story/d", "never read")
    client.outcome("d-0")
    client.close("/story/d", erase=True)
    client.evict("/story/box")
    client.followup("/story/box", "box-0")
    client.outcome("box-0")
    client.hear("all")


STATES: dict[str, Any] = {
    "/story/a": {"given": ["a-0", "a-1", "a-2", "a-3", "a-4"], "read": ["to a"]},
    "/story/box": {"given": ["box-0"], "read": ["outside", "checked", "ended", "fan"]},
    "/story/h/below": {"given": ["h-3"], "read": []},
    "/story/p": {"checked": "p-0", "nested": 1, "fan": [1, 2]},
    "/story/p/child": {"given": ["first", "second"], "read": []},
}
"""What the open agents have become when the story is over, by path."""

OUTCOMES = {
    **{f"a-{n}": ["completed", n + 1] for n in range(5)},
    "a-boom": ["failed", None],
    **{f"h-{n}": ["interrupted", None] for n in range(3)},
    "h-3": ["completed", 1],
    "box-0": ["completed", 1],
}
"""How the named runs have ended, but for those whose ids are derived and the one that was deleted."""
