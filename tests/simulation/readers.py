"""Readers of events that are slower than their writers, and what they must be given all the same."""

import asyncio
from typing import Any

from greenroom import Event, RuntimeClosing, StoreError
from greenroom.testing import Simulation

PLACES = (("/", 2, 0.02), ("/a", 1, 0.3))
"""Under what each reads, how many events at a time, and how many seconds it takes for one."""


class SlowReader:
    """Somebody who reads all events of one process, at their own pace."""

    def __init__(self, simulation: Simulation, under: str, page: int, pause: float) -> None:
        self.under, self.page, self.pause = under, page, pause
        self.got: list[Event] = []
        self._simulation = simulation
        simulation.loop.create_task(self._read(), name=f"a slow reader of {under}")

    async def _read(self) -> None:
        """As a client does: one that met an error goes on after the last event that it has read."""
        while True:
            try:
                await self._follow()
            except StoreError:
                await asyncio.sleep(self.pause)
            except RuntimeClosing:
                return
            else:
                return

    async def _follow(self) -> None:
        stream = self._simulation.aio.events(self.under, since=self.got[-1].seq if self.got else 0)
        stream.page = self.page
        async for event in stream:
            if not event.type.startswith("store."):
                self.got.append(event)
            await asyncio.sleep(self.pause)

    def check(self, told: dict[int, Any], *, all_of_them: bool) -> None:
        """Held against all that was told: each event once and in order, or said to be missed."""
        numbers = [event.seq for event in self.got]
        assert numbers == sorted(set(numbers)), f"a reader of {self.under} was given {numbers}"
        read = max(numbers, default=0)
        last = max(told, default=0) if all_of_them else read
        first = min(numbers, default=last)
        missed: set[int] = set()
        for event in self.got:
            if event.type == "events.missed" and event.run_id is None:
                missed.update(range(event.data["since"] + 1, event.data["upto"] + 1))
            else:
                known = told.get(event.seq, event)
                assert known == event, f"a reader of {self.under} was given {event} and not {known}"
        given = missed.union(numbers)
        lost = [event for seq, event in told.items() if first <= seq <= last and seq not in given]
        assert not lost, f"a reader of {self.under} was never given {lost}"


def slow_readers(simulation: Simulation) -> list[SlowReader]:
    """Those who read from this process."""
    return [SlowReader(simulation, *place) for place in PLACES]
