"""Long work in portions, so that nobody waits for the whole of it.

An errand is an iterator of steps, and a step is what it asks for. A portion of them is done at a time; for
the next one the ledger sends itself `NextPortion`, behind whatever came meanwhile. Decision 0034 says why.
Between two portions anything may happen.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from ..effects import Effect, Send

STEPS_IN_PORTION = 16
"""Steps at a time. The dearest step, the end of a run, takes some 30 µs."""

LIGHT_STEPS = 200
"""Things that are looked at in one step, where most of them need nothing to be done."""


LOOKS_IN_STEP = 16
"""Open runs that are waited for, or taken over from the store, in one step."""


class NextPortion(Struct, frozen=True, gc=False):
    """To the ledger, from itself: do the next portion of an errand."""

    number: int


class Portions:
    """The errands under way."""

    def __init__(self, portion: int = STEPS_IN_PORTION) -> None:
        self._portion = portion
        self._under_way: dict[int, Iterator[Iterable[Effect]]] = {}
        self._recording: set[int] = set()  # those that bring forth records
        self._held: list[int] = []  # Those of them that wait for the disk.
        self._asked: dict[int, object] = {}  # the requests that some of them answer
        self._begun = 0
        self.broken: object = None  # the request of the errand that raised last, if it answers one

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def begin(
        self, steps: Iterable[Iterable[Effect]], *, records: bool = False, asked: object = None
    ) -> list[Effect]:
        """Do the first portion, and have the others follow.

        `records`: they bring forth records. `asked`: the request that they answer.
        """
        self._begun += 1
        self._under_way[self._begun] = iter(steps)
        if asked is not None:
            self._asked[self._begun] = asked
        if records:
            self._recording.add(self._begun)
        return self.go_on(self._begun)

    def go_on(self, number: int, *, behind: bool = False) -> list[Effect]:
        """Do the next portion. `behind`: the disk is; then one that records waits for `release`."""
        self.broken = None
        if behind and number in self._recording:
            self._held.append(number)
            return []
        steps = self._under_way[number]
        effects: list[Effect] = []
        for _ in range(self._portion):
            try:
                step = next(steps, None)
            except BaseException:  # a bug: nothing more of it is done
                self.broken = self._over(number)
                raise
            if step is None:
                self._over(number)
                return effects
            effects += step
        effects.append(Send("ledger", NextPortion(number)))
        return effects

    def _over(self, number: int) -> object:
        """Forget an errand; the request that it answers."""
        del self._under_way[number]
        self._recording.discard(number)
        return self._asked.pop(number, None)

    def release(self) -> list[Effect]:
        """The disk has caught up a little, or cannot be written at all: go on with those that wait."""
        held, self._held = self._held, []
        return [Send("ledger", NextPortion(number)) for number in held]
