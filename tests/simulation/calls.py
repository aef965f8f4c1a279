"""The public calls on a simulated runtime, each noted in the specification as its caller was answered.

What must be true of all of it is in `guarantees.py`.
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from greenroom import (
    AgentClosed,
    AgentNotFound,
    BacklogFull,
    PathTaken,
    RunIdTaken,
    RunNotFound,
    StoreError,
)

from .clocks import ROUNDING
from .process import Process, number_of
from .scripts import EXECUTING, House, Script, once, plain, worker
from .specification import Accepted, Life, stronger

NAMES = {worker: "model.worker", plain: "model.plain", House: "model.house", once: "model.once"}


SOON = 60.0
"""Seconds that a call may take, with all that the disk has to do before."""


class Odd(str):
    """An id that nobody can look up."""

    def __hash__(self) -> int:
        raise RuntimeError("this id cannot be looked up")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("this id cannot be compared")


FORMS = ("r{}", "r{}", "r {} / ä%?#", "RUN-{}", "r{}" + "." * 100)


def id_of(number: int) -> str:
    """The id of the run that was asked for as this one, in one of the forms that callers like."""
    return FORMS[number % len(FORMS)].format(number)


def as_given(run_id: str) -> str:
    """An id as a caller gives it: now and then by an object that is only nearly a str."""
    return Odd(run_id) if sum(map(ord, run_id)) % 3 == 0 else run_id


LOOK = 2.0
"""Seconds that a look at runs may take: it waits for a disk, which may have to be asked again."""


class Model(Process):
    """The calls, and what is to be expected of them."""

    # Agents

    def spawn(self, path: str, kind: Any = worker, level: str | None = None, callers: int = 1) -> None:
        """G7: of all who want a path at once, one gets it, if nobody has it."""
        self.spawn_at_once([(path, kind)] * callers, level)

    def spawn_at_once(self, wanted: list[tuple[str, Any]], level: str | None = None) -> None:
        """Agents at these paths, by callers that are all under way at once."""
        known = {path: self.spec.at(path) for path, _ in wanted}
        asked = {
            self.lives + number: (path, kind)
            for number, (path, kind) in enumerate(wanted, 1)
            if (there := known[path]) is None or there.is_open
        }
        self.lives += len(wanted)
        born: dict[str, list[int]] = {path: [] for path in known}
        deaths = self.deaths

        async def one(number: int, path: str, kind: Any) -> None:
            config = {"life": number}
            try:
                await self.simulation.aio.spawn(kind, path, config=config, durability=level)
            except StoreError:
                # with the store away it may have been accepted all the same
                away = self.store_is_away
                self.limbo.append(unknown if away else lambda: self._not_spawned(path, number))
            except (PathTaken, BacklogFull):
                pass
            else:
                born[path].append(number)

        def unknown() -> None:
            for path in known:
                number = self.life_at(path)
                if number in asked:
                    self.spec.born(path, NAMES[asked[number][1]], self.level_found(deaths), number)

        self.attempt(
            lambda: self.simulation.run(together(one(n, *what) for n, what in asked.items())), unknown
        )
        if not self.simulation.is_up:
            return  # whoever was answered before was not heard
        for path, numbers in born.items():
            assert len(numbers) <= (known[path] is None), (
                f"G7: {path} was spawned by {numbers}, and is {known[path]}"
            )
            for number in numbers:
                self.spec.born(path, NAMES[asked[number][1]], self.spec.effective(level), number)

    def _not_spawned(self, path: str, number: int) -> None:
        """The disk refused it: nothing was recorded."""
        assert self.life_at(path) != number, f"G7: the spawn of {path} was refused, and it is there"

    def life_at(self, path: str) -> int | None:
        """Which agent is open at a path."""
        return next((number_of(i) for i in self.simulation.list(path) if i.path == path), None)

    def close_agent(self, path: str, *, erase: bool = False) -> None:
        ref = self.ref(path)
        if ref is None:
            return
        below = self.spec.closing(path, erase=erase)
        EXECUTING.erased = EXECUTING.erased or erase
        for life in below:
            self.pinned.pop(life.path, None)

        def settle() -> None:
            still = {number_of(info) for info in self.simulation.list(path)}
            for life in below:
                life.state = "open" if life.number in still else "closed"

        self.attempt(ref.delete if erase else ref.close, settle)
        if settle not in self.limbo and self.simulation.is_up:
            self.quietly(settle)
            assert not any(life.is_open for life in below), f"G7: {path} was closed and is open"

    def pin(self, path: str, *, pinned: bool) -> None:
        ref = self.ref(path)
        if ref is not None:
            self.attempt(ref.pin if pinned else ref.unpin)
            self.pinned.pop(path, None)
            if pinned and self.simulation.is_up:
                self.pinned[path] = False

    def evict(self, path: str) -> None:
        """G5: nothing that can be seen changes with it, but where it is."""
        ref = self.ref(path)
        if ref is None or self.store_is_away or self.spec.somebody_dies:
            return  # it would not come to rest

        def visible() -> Any:
            info = ref.info()
            return info.kind, info.config, info.status, info.inbox, info.last_outcome, ref.state()

        def evict() -> None:
            self.simulation.run_until_idle()
            before = visible()
            evicted = ref.evict()
            assert not (evicted and path in self.pinned), f"G4: {path} is pinned and was evicted"
            assert visible() == before, "G5: an eviction was seen"
            self.simulation.run_until_idle()
            assert not evicted or not ref.info().resident, f"G5: {path} was evicted and is there"
            assert visible() == before, "G5: an eviction was seen"

        self.quietly(evict)

    # Work

    def followups(
        self, wanted: list[tuple[str, Script]], evicting: str | None = None, level: str | None = None
    ) -> None:
        """Runs of one agent or several, by callers that are all under way at once.

        Another caller asks for the eviction of the agent at `evicting` meanwhile, again and again.
        """
        asked = [run for path, script in wanted if (run := self._asked(path, script, level)) is not None]
        deaths = self.deaths

        async def one(run: Accepted, life: Life) -> None:
            try:
                ref = await self.simulation.aio.agent(run.path)
                await ref.followup(run.script, run_id=as_given(run.run_id), durability=level)
            except (AgentClosed, AgentNotFound):
                assert not life.is_open, f"{life} refused a run"
            except StoreError:
                if self.store_is_away:
                    self.spec.perhaps[run.run_id] = run
                    self.limbo.append(settle)
                else:
                    self.limbo.append(lambda: self._not_there(run))
            except BacklogFull:
                pass
            else:
                self.spec.accepted(run)

        async def evict() -> None:
            if evicting is not None:
                with suppress(AgentClosed, AgentNotFound, StoreError):
                    ref = await self.simulation.aio.agent(evicting)
                    for _ in range(5):
                        await ref.evict()

        def settle() -> None:
            for run, _ in asked:
                with suppress(RunNotFound):
                    self.simulation.run(run.run_id)
                    # nobody was promised it, but there it is; its turn may have been cut off
                    run.crashes = self.deaths - deaths
                    run.level = self.level_found(deaths)
                    run.told_at = stronger("process", self.spec.level)
                    self.spec.accepted(run)

        if asked:
            callers = [one(run, life) for run, life in asked]
            self.attempt(lambda: self.simulation.run(together([*callers, evict()])), settle)

    def _asked(self, path: str, script: Script, level: str | None) -> tuple[Accepted, Life] | None:
        life = self.spec.at(path)
        if life is None or not self.simulation.is_up:
            return None
        if script.interrupts is not None:
            self.spec.interrupted_by_turns.add(script.interrupts)
        self.made += 1
        run_id, level = id_of(self.made), self.spec.effective(level)
        self.spec.asked.add(run_id)
        calls = self.spec.calls + 1
        return Accepted(run_id, path, life.number, life.kind, script, level, level, calls), life

    def _not_there(self, run: Accepted) -> None:
        """The disk refused it: nothing was recorded."""
        with suppress(RunNotFound):
            self.simulation.run(run.run_id)
            raise AssertionError(f"G3: {run} was refused, and is there")

    def again(self, run_id: str, level: str | None = None, *, other: bool = False) -> None:
        """A known id with the same input is the same run, and now promised at this level as well.

        With an `other` input it is refused. Once the run is forgotten, the same id is another run.
        """
        run, ref = self._open(run_id)
        if run is None or ref is None:
            return
        may_go = self.spec.may_be_pruned(run, self.now + SOON)
        script = replace(run.script, steps=run.script.steps + 1) if other else run.script
        at = self.spec.effective(level)
        new = Accepted(run_id, run.path, run.life, run.kind, script, at, at, self.spec.calls + 1)
        new.asked_at, new.before = self.now, run
        if may_go:
            self.look()  # all that was told so far is of the run that may go
            EXECUTING.forget([run_id])  # its code is not begun any more; that of another one may be
            self.unsure[run_id] = new

        def give() -> str:
            try:
                ref.followup(script, run_id=as_given(run_id), durability=level)
            except RunIdTaken:
                return "refused"
            return "accepted"

        deaths = self.deaths

        def settle() -> None:
            new.crashes = self.deaths - deaths
            new.level = self.level_found(deaths)
            new.told_at = stronger("process", self.spec.level)
            self._which(run_id)

        answer = self.attempt(give, settle)
        if answer is None or not self.simulation.is_up:
            return
        self.unsure.pop(run_id, None)
        if answer == "refused":
            assert other, f"G2: {run} was given again with the same input, and refused"
        elif may_go and self.quietly(lambda: self._is(new)):
            self.accepted_anew(new)
        else:
            assert not other, f"G2: {run} was given again with another input, and accepted"
            self.spec.accepted(replace(run, level=at))

    def _open(self, run_id: str) -> tuple[Accepted | None, Any]:
        """A run by its id, and its agent, if that is open."""
        run = self.spec.runs.get(run_id)
        life = self.spec.at(run.path) if run else None
        if run is None or life is None or life.number != run.life or not self.simulation.is_up:
            return None, None
        return run, self.ref(run.path)

    def _is(self, run: Accepted) -> bool:
        """Whether it is this run that has its id now."""
        try:
            accepted_at = self.simulation.run(run.run_id).info().accepted_at
            return self.spec.clock.earliest(accepted_at) + ROUNDING >= run.asked_at
        except RunNotFound:
            return False

    def _which(self, run_id: str) -> None:
        """Nobody was told which run has the id."""
        new = self.unsure.pop(run_id, None)
        if new is not None and self._is(new):
            self.accepted_anew(new)

    def spawn_again(self, run_id: str, *, other: bool = False) -> None:
        """A spawn with a known run id gives the same agent and run; it never makes a second one."""
        run, ref = self._open(run_id)
        if run is None or ref is None:
            return
        may_go = self.spec.may_be_pruned(run, self.now + SOON)
        script = replace(run.script, steps=run.script.steps + 1) if other else run.script

        def give() -> None:
            try:
                same = self.simulation.spawn(run.kind, run.path, input=script, run_id=run_id)
            except RunIdTaken:
                assert other, f"G7: {run} was spawned again with the same input, and refused"
            except PathTaken:
                assert may_go, f"G7: {run} is kept, and its agent was taken for another one"
            else:
                told = (same.path, same.run and same.run.run_id)
                assert not other, f"G7: {run} was spawned again with another input, and accepted"
                assert told == (run.path, run_id), f"G7: {run} was spawned again, and is {told}"

        self.attempt(give)

    def reserved(self, path: str, run_id: str) -> None:
        """An id that could be the runtime's own is refused, and nothing is recorded."""
        ref = self.ref(path)
        if ref is not None:
            try:
                ref.followup(Script(), run_id=run_id)
            except RunIdTaken:
                return
            raise AssertionError(f"G2: a caller may choose the id {run_id}")

    def _is_known(self, run_id: str) -> bool:
        """Whether it was not pruned: asked for then, the same id is another run."""
        try:
            return self.simulation.is_up and bool(self.quietly(lambda: self.simulation.run(run_id)))
        except RunNotFound:
            return False

    def send(self, path: str, level: str | None = None) -> None:
        life, ref = self.spec.at(path), self.ref(path)
        if life is None or ref is None:
            return
        self.made += 1
        text = f"outside {self.made}"
        sent = self.attempt(lambda: (ref.send(text, durability=level), True))
        if sent:
            life.mail[text] = self.spec.effective(level)

    def interrupt(self, path: str, *, cascade: bool = False, run_id: str | None = None) -> None:
        ref = self.ref(path)
        if ref is not None:
            covered = self.spec.may_interrupt(path, cascade=cascade, run_id=run_id)
            if self.attempt(lambda: ref.interrupt(run_id, cascade=cascade)) is not None:
                for run in covered:
                    run.must_end = True

    def hear(self, run_id: str, timeout: float) -> None:
        """Wait for a run's end; what is told is promised at the level of the run."""
        run = self.spec.runs.get(run_id)
        if run is None or not self.simulation.is_up:
            return

        def outcome() -> Any:
            with suppress(TimeoutError, RunNotFound):
                return self.simulation.run(run_id).outcome(timeout)

        told = self.attempt(outcome)
        if told is not None and self.spec.runs.get(run_id) is run:
            assert told.status != "completed" or told.result == run_id, f"G2: {run} has come to {told}"
            self.spec.ended(run_id, told.status, told.error, run.told_at, told.ended_at)

    def wait_any(self, run_ids: list[str], timeout: float) -> None:
        """Those that have ended are told, and it does not take longer than it may."""

        def wait() -> None:
            runs = [self.simulation.run(run_id) for run_id in run_ids if self._is_known(run_id)]
            begun = self.simulation.now
            told = self.simulation.wait(runs, timeout=timeout, until="any")
            longest = timeout + 0.001 if timeout else LOOK
            assert self.simulation.now <= begun + longest, "G11: a wait took too long"
            assert all(run.done() for run in told), "G2: one was told of that has not ended"

        if self.simulation.is_up:
            self.attempt(wait)

    def advance(self, seconds: float) -> None:
        if self.simulation.is_up:
            self.attempt(lambda: self.simulation.advance(seconds))


async def together(callers: Any) -> None:
    """All at once, each to its end; the first error is raised."""
    waiting: list[Coroutine[Any, Any, None] | Awaitable[None]] = list(callers)
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(error, BaseException):
            raise error
