"""A flood of events with a thousand who listen: nothing of ours holds the loop for long."""

import asyncio
import gc
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from greenroom import AsyncRuntime, Turn, agent

EVENTS, LISTENERS = 200_000, 1_000
MOST = 0.02
"""Seconds of CPU time of the loop's thread in one callback."""


@agent(name="many-listeners-flood")
async def flood(turn: Turn) -> None:
    for number in range(EVENTS):
        turn.emit("n", number)
        if number % 200 == 0:
            await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["all at one place", "each at its own"])
def test_no_callback_holds_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Measured by the thread's CPU time, so that a busy machine does not count; nor does the collector."""
    longest = 0.0
    begun_with = asyncio.Handle._run  # type: ignore[attr-defined]
    loops_thread = threading.get_ident()

    def timed(handle: Any) -> None:
        nonlocal longest
        if threading.get_ident() != loops_thread:
            begun_with(handle)
            return
        begun = time.thread_time()
        begun_with(handle)
        longest = max(longest, time.thread_time() - begun)

    async def story() -> None:
        nonlocal longest
        async with AsyncRuntime(tmp_path / "agents.db") as runtime:

            async def listen(number: int) -> None:
                async for _ in runtime.events("/" if where == "all at one place" else f"/t/{number}"):
                    pass

            listeners = [asyncio.create_task(listen(number)) for number in range(LISTENERS)]
            agent_ref = await runtime.spawn(flood, "/t/7/flood")
            for _ in range(3):
                await runtime.stats()  # all who listen do by now
            gc.collect()
            gc.disable()
            try:
                await asyncio.sleep(0)
                longest = 0.0
                await (await agent_ref.followup(1))
                held = longest
            finally:
                gc.enable()
            for listener in listeners:
                listener.cancel()
            await asyncio.gather(*listeners, return_exceptions=True)
            assert (await runtime.stats()).events_dropped == 0
            assert held < MOST, f"{1000 * held:.1f} ms"

    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    asyncio.run(story())
