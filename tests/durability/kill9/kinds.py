"""The agents of the kill trials: each counts what it was given, and notes outside that it begins.

An agent's state holds the runs that it has counted, in order, and the messages that it has read. What a
run is to do stands in its input:

    token   its name, never given twice
    half    send a message there and take that down, then checkpoint
    post    send a message there at the end
    pause   wait so many seconds on the way
    fail    raise at the end
    width   so many children are given two runs each (parents), or one each (fans)
    depth   how deep the family is
    of      the run that this one continues (fans)
"""

import asyncio
import os
import signal
import threading
from contextlib import suppress
from itertools import count
from typing import Any

from record import Log

from greenroom import PathTaken, SyncTurn, Turn, agent

MANY = 100_000
"""Attempts that no number of kills uses up."""


class Fate:
    """Kills this process at the n-th turn that begins or ends, answer or outcome: `turn:17`."""

    def __init__(self, at: str | None) -> None:
        self._what, _, number = (at or "").partition(":")
        self._number = int(number or 0)
        self._passed = count(1)

    def passes(self, what: str) -> None:
        if what == self._what and next(self._passed) == self._number:
            os.kill(os.getpid(), signal.SIGKILL)


class Outside:
    """What of the world outside the worker gives its agents."""

    begun: Log
    fate = Fate(None)

    @staticmethod
    async def work(seconds: float) -> None:
        """Take as long as real work would, so that deaths and interrupts find turns under way."""
        await asyncio.sleep(seconds)


def new_state() -> dict[str, Any]:
    return {"count": 0, "seen": [], "read": [], "half": [], "family": [], "joined": []}


def begin(turn: Turn | SyncTurn) -> None:
    Outside.begun.write(f"{turn.run_id} {turn.attempt}".encode())
    Outside.fate.passes("turn")


def take_down(turn: Turn | SyncTurn, *, read: bool = False) -> dict[str, Any]:
    """Count this run, and all messages that wait, unless a checkpoint of this turn has `read` them."""
    state = turn.state
    state["count"] += 1
    state["seen"].append([turn.run_id, turn.input["token"]])
    if not read:
        read_mail(turn)
    Outside.fate.passes("end")
    return {"run": turn.run_id, "count": state["count"]}


def read_mail(turn: Turn | SyncTurn) -> None:
    """Take down the messages that wait."""
    turn.state["read"] += [message.body.strip() for message in turn.inbox]


def told(outcomes: list[Any]) -> list[Any]:
    return [[outcome.run_id, outcome.status, outcome.result] for outcome in outcomes]


@agent(name="kill-tally", attempts=MANY, state=new_state)
async def tally(turn: Turn) -> Any:
    begin(turn)
    read = False
    if "half" in turn.input and turn.run_id not in turn.state["half"]:
        turn.state["half"].append(turn.run_id)
        await turn.send(turn.input["half"], f"{turn.run_id}/half")
        read_mail(turn)  # which a checkpoint takes as read
        await turn.checkpoint()
        read = True
    if "pause" in turn.input:
        turn.emit("pause", turn.input["pause"])
        async with turn.paused():
            await Outside.work(turn.input["pause"])
    if "post" in turn.input:
        await turn.send(turn.input["post"], f"{turn.run_id}/post")
    if "fail" in turn.input:
        raise ValueError(turn.input["fail"])
    return take_down(turn, read=read)


@agent(name="kill-clerk", attempts=MANY, state=new_state, codec="msgpack")
def clerk(turn: SyncTurn) -> Any:
    begin(turn)
    read = False
    if "half" in turn.input and turn.run_id not in turn.state["half"]:
        turn.state["half"].append(turn.run_id)
        turn.send(turn.input["half"], f"{turn.run_id}/half")
        read_mail(turn)
        turn.checkpoint()
        read = True
    if "pause" in turn.input:
        threading.Event().wait(turn.input["pause"])
    if "post" in turn.input:
        turn.send(turn.input["post"], f"{turn.run_id}/post")
    if "fail" in turn.input:
        raise ValueError(turn.input["fail"])
    return take_down(turn, read=read)


@agent(name="kill-parent", attempts=MANY, state=new_state, codec="json")
async def parent(turn: Turn) -> Any:
    """Give each child two runs and wait for all. Begun again, ask in another order, and for more."""
    begin(turn)
    order = turn.input
    numbers = list(range(order.get("width", 0)))
    if turn.attempt % 2 == 0:
        numbers.reverse()
        await turn.list()
    runs = {}
    for number in numbers:
        name = f"{order['name']}-{number}"
        inner = order["depth"] > 1
        child = await turn.spawn(parent if inner else tally, name, config={"of": turn.run_id})
        for part in ("a", "b"):
            task = {"token": f"{order['token']}-{number}{part}", "pause": order["pause"]}
            if inner and part == "a":
                task |= {"width": order["width"], "depth": order["depth"] - 1, "name": name}
            runs[number, part] = await child.followup(task)
        if turn.attempt > 1:
            await child.followup({"token": f"{order['token']}-{number}-again-{turn.attempt}"})
    outcomes = await turn.wait(*(runs[key] for key in sorted(runs)))
    if runs:
        turn.state["family"].append([turn.run_id, told(outcomes)])
    return take_down(turn)


@agent(name="kill-fan", attempts=MANY, state=new_state, codec="json")
async def fan(turn: Turn) -> Any:
    """Give the same few children a run each, and go on when all of them have ended."""
    begin(turn)
    order = turn.input
    if "of" in order:
        turn.state["joined"].append([order["of"], told(turn.results)])
    runs = []
    for number in range(order.get("width", 0)):
        with suppress(PathTaken):
            await turn.spawn(tally, f"w{number}")
        task = {"token": f"{order['token']}-{number}", "pause": order["pause"]}
        runs.append(await turn.followup(f"w{number}", task))
    if runs:
        await turn.after(*runs, input={"token": f"{order['token']}-joined", "of": turn.run_id})
    return take_down(turn)


@agent(name="kill-once", attempts=1, state=new_state)
async def once(turn: Turn) -> Any:
    begin(turn)
    await Outside.work(turn.input.get("pause", 0))
    return take_down(turn)


@agent(name="kill-twice", attempts=2, state=new_state)
async def twice(turn: Turn) -> Any:
    begin(turn)
    await Outside.work(turn.input.get("pause", 0))
    return take_down(turn)
