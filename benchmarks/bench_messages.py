"""How many messages a second do bare actors exchange, and does that depend on how many there are?

Fan-out: a parent sends each of N children a number and adds up their answers. Ping-pong: one message under
way at a time. `LocalSystemBase` against tasks with queues on a bare loop, and against Thespian's own bases:
simpleSystemBase at the same sizes and in the same rounds, the multi-process ones (a process for each actor)
with a few actors, for as long as they may take. Then ping-pong once more, beside many idle actors and
pending wake-ups.

    python benchmarks/bench_messages.py --json
"""

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import msgspec
from common.hops import Tasks, Team
from common.measure import Contestant, Round, Rounds, interleaved
from common.report import FLOOR, OURS, Peer, Row, at_least, row
from common.script import Options, main
from common.strays import free_port, output_within

from greenroom.actors.systems.local import LocalSystemBase

SIMPLE = "simpleSystemBase"
BARE = "asyncio tasks"
MULTIPROC = ("multiprocTCPBase", "multiprocQueueBase", "multiprocUDPBase")


async def compare(options: Options, number: int, fans: int, rallies: int) -> Rounds:
    """Ours, bare tasks and simpleSystemBase with that many actors each."""
    async with AsyncExitStack() as stack:
        local = Team(LocalSystemBase(), number)
        stack.callback(local.close)
        simple = Team(SIMPLE, number)
        stack.callback(simple.close)
        tasks = Tasks(number)
        stack.push_async_callback(tasks.close)

        async def of(team: Team) -> Round:
            return Round({"fan": team.fan(fans), "rally": team.rally(rallies)})

        async def bare() -> Round:
            return Round({"fan": await tasks.fan(fans), "rally": await tasks.rally(rallies)})

        contestants: dict[str, Contestant] = {
            OURS: partial(of, local),
            FLOOR: bare,
            SIMPLE: partial(of, simple),
        }
        return await interleaved(contestants, options.repeats)


async def beside(options: Options, idle: int, wakeups: int, rallies: int) -> Rounds:
    """Ping-pong on two bases of ours, one of them with much else that does nothing."""
    with_much, alone = Team(LocalSystemBase(), idle), Team(LocalSystemBase(), 1)
    try:
        with_much.rest(wakeups)

        async def of(team: Team) -> Round:
            return Round({"rally": team.rally(rallies)})

        contestants = {OURS: partial(of, with_much), FLOOR: partial(of, alone)}
        return await interleaved(contestants, options.repeats + 2)
    finally:
        with_much.close()
        alone.close()


def others(actors: int, seconds: float, bases: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """What Thespian's multi-process bases do, one after the other; what did not come is not there."""
    told: dict[str, dict[str, float]] = {}
    for base in bases:
        words = ("-m", "common.hops", base, "--actors", str(actors), "--port", str(free_port()))
        out, _ = output_within(seconds, *words)
        lines = [line for line in out.splitlines() if line.startswith("{")]
        told[base] = msgspec.json.decode(lines[-1]) if lines else {}
    return told


def with_others(made: Row, told: dict[str, dict[str, float]], value: str, actors: int) -> Row:
    """The row, with peers that ran beside its rounds and not in them."""
    peers = dict(made.peers)
    for base, values in told.items():
        found = values.get(value)
        times: Any = None if found is None else made.ours.median / found
        note = f"with {actors} actors" if found is not None else "did not come to an end"
        peers[base] = Peer(found, times, note)
    return msgspec.structs.replace(made, peers=peers)


async def measure(options: Options) -> list[Row]:
    few, many = options.pick((1_000, 10_000), (50, 200))
    fans, rallies = options.pick((50, 20_000), (2, 50))
    actors, seconds = options.pick((20, 40.0), (2, 20.0))
    small = await compare(options, few, fans, rallies)
    large = await compare(options, many, options.pick(5, 1), rallies)
    told = others(actors, seconds, options.pick(MULTIPROC, MULTIPROC[:1]))
    wanted = {"pykka": 10.0, "xoscar": 20.0, "autogen-core": 20.0}

    def line(name: str, rounds: Rounds, value: str, ahead: float) -> Row:
        made = row(
            name, "messages/s", rounds, value, better="more", floor_name=BARE, target=at_least(1.0),
            peers=[SIMPLE], wanted={SIMPLE: ahead, **wanted},
        )  # fmt: skip
        return with_others(made, told, value, actors) if rounds is small else made

    idle, wakeups = options.pick((100_000, 10_000), (1_000, 100))
    crowded = await beside(options, idle, wakeups, rallies)
    return [
        line(f"fan-out, {few:,} actors", small, "fan", 5.0),
        line(f"fan-out, {many:,} actors", large, "fan", 8.0),
        line("ping-pong", small, "rally", 5.0),
        row(
            f"ping-pong beside {idle:,} idle actors, {wakeups:,} wake-ups", "messages/s", crowded, "rally",
            better="more", floor_name="alone", target=at_least(0.9),
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main(__file__, __doc__, measure)
