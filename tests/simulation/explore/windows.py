"""The windows: a moment of the runtime each, and who acts in it. What follows is explored in all orders.

A window begins where its callers are about to act; what came before happened in one order. `prompt` says
what is not explored: mail that is handled at once. Where nothing is said, no mail is.
"""

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from .cast import Cast
from .house import Box, Call, House

DIRECTORY: tuple[Box, ...] = (("directory", "ledger"), ("directory", "residency"))
"""Calls about known paths are handed on at once: that is as if they were made a moment later."""
ASKS: tuple[Box, ...] = (("ledger", "writer"), ("ledger", "reader"))
"""The disk does at once what it is asked; when its answers come is explored."""
DISK: tuple[Box, ...] = (*ASKS, ("writer", "ledger"), ("reader", "ledger"))
"""The disk answers at once: when commits are answered is not explored."""
LOADS: tuple[Box, ...] = (("ledger", "residency"), ("residency", "ledger"))
EXITS: tuple[Box, ...] = (("system", "residency"),)
"""That an actor is gone is known at once."""
CODE = ("returns", "raises", "waits")

Make: TypeAlias = Callable[..., House]


class Window(Struct, frozen=True):
    """`at_least` is a hundredth of the schedules that there were when it was written: fewer are a mistake.

    `long` ones take minutes.
    """

    name: str
    make: Make
    at_least: float
    long: bool = False


WINDOWS: list[Window] = []


def window(name: str, *, at_least: float, long: bool = False) -> Callable[[Make], Make]:
    """Register a window by what its function makes."""

    def register(make: Make) -> Make:
        WINDOWS.append(Window(f"{name}: {make.__name__.replace('_', ' ')}", make, at_least, long))
        return make

    return register


def house(
    *paths: str,
    slots: int = 1,
    residents: int = 3,
    prompt: tuple[Box, ...] = (),
    timers: bool = False,
    share: float = 0.5,
    cast: Cast | None = None,
) -> House:
    """A house with agents at `paths` that have come to rest."""
    made = House(slots=slots, residents=residents, prompt=prompt, timers=timers, share=share, cast=cast)
    made.call(setup=tuple(("spawn", path) for path in paths))
    made.settle()
    made.check_at_rest()
    return made


def under_way(made: House, *calls: Call) -> House:
    """The same after these calls, when code executes that is about to return."""
    made.call(setup=calls)
    made.settle(hold=CODE)
    return made


# A slot is handed over

SLOT = "a slot is handed over"


@window(SLOT, at_least=1e14)
def one_of_two_is_interrupted(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/y", cast=cast)
    made.call(one=(("run", "/a/x", "r1"),), two=(("run", "/a/y", "r2"),), three=(("interrupt", "/a/x"),))
    return made


@window(SLOT, at_least=4e13, long=True)
def the_holder_may_crash(cast: Cast | None = None) -> House:
    made = house("/a/x", "/b/y", cast=cast, prompt=(*DIRECTORY, *DISK))
    under_way(made, ("run", "/a/x", "r1"), ("run", "/b/y", "r2"))
    made.may_crash = ("agent 1.1",)
    return made


@window(SLOT, at_least=5e10)
def the_only_one_may_crash(cast: Cast | None = None) -> House:
    made = house("/a/x", cast=cast)
    made.call(one=(("run", "/a/x", "r1"),))
    made.may_crash = ("agent 1.1",)
    return made


@window(SLOT, at_least=3e12, long=True)
def what_it_asked_before_it_crashed_comes_late(cast: Cast | None = None) -> House:
    made = house("/a/x", cast=cast, prompt=(*DIRECTORY, *DISK, *EXITS))
    made.call(setup=(("run", "/a/x", "r1"),))
    made.settle(hold=("agent 1.1",))
    made.take(("mail", "agent 1.1", "slots"))
    made.take(("mail", "slots", "agent 1.1"))  # now it has asked for its run
    made.may_crash = ("agent 1.1",)
    made.take(("agent 1.1", "crashes"))
    made.call(
        one=(("interrupt", "/a/x"), ("run", "/a/x", "r2")),
    )
    return made


@window(SLOT, at_least=3e11)
def a_turn_waits_for_another(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/y", cast=cast, prompt=DIRECTORY)
    under_way(made, ("run", "/a/x", "r1", "wait r2", "do"), ("run", "/a/y", "r2"))
    made.call(one=(("interrupt", "/a/x"),))
    return made


@window(SLOT, at_least=100_000, long=True)
def three_take_turns(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/y", "/b/z", cast=cast, prompt=(*DIRECTORY, *DISK, *LOADS))
    calls = {path[-1]: (("run", path, f"r-{path[-1]}"),) for path in ("/a/x", "/a/y", "/b/z")}
    made.call(**calls)
    return made


# An eviction meets a delivery

EVICTION = "an eviction meets a delivery"


@window(EVICTION, at_least=1e13)
def room_is_needed_for_another(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/y", residents=1, cast=cast, prompt=(*DIRECTORY, *DISK, *EXITS))
    made.call(one=(("run", "/a/x", "r1"),), two=(("run", "/a/y", "r2"),))
    return made


@window(EVICTION, at_least=1e6)
def more_comes_for_who_is_to_go(cast: Cast | None = None) -> House:
    made = house("/a/x", residents=1, cast=cast, prompt=(*DIRECTORY, *DISK, *EXITS))
    made.call(one=(("run", "/a/x", "r1"), ("run", "/a/x", "r2")), two=(("evict", "/a/x"),))
    return made


@window(EVICTION, at_least=1e9)
def it_is_asked_to_leave(cast: Cast | None = None) -> House:
    made = house("/a/y", residents=1, cast=cast, prompt=(*DIRECTORY, *DISK, *EXITS))
    mail = (("send", "/a/y", "m"), ("send", "/a/y", "n"))
    made.call(one=(("evict", "/a/y"),), two=(("run", "/a/y", "r1"),), three=mail)
    return made


@window(EVICTION, at_least=2e16, long=True)
def it_may_take_too_long(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/y", residents=1, timers=True, cast=cast, prompt=(*DIRECTORY, *DISK))
    made.call(one=(("run", "/a/x", "r1"),), two=(("run", "/a/y", "r2"),))
    return made


@window(EVICTION, at_least=1e18, long=True)
def the_disk_takes_its_time(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/y", residents=1, cast=cast, prompt=(*DIRECTORY, *ASKS))
    made.call(one=(("run", "/a/x", "r1"),), two=(("run", "/a/y", "r2"),))
    return made


# A place is given up and taken again

PLACE = "a place is given up and taken again"


@window(PLACE, at_least=7e14)
def a_turn_waits_where_there_is_one_place(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/y", residents=1, cast=cast, prompt=(*DIRECTORY, *DISK, *EXITS))
    under_way(made, ("run", "/a/x", "r1", "wait r2", "do"), ("run", "/a/y", "r2"))
    made.call(one=(("interrupt", "/a/x"),))
    return made


@window(PLACE, at_least=6e16)
def more_comes_for_who_waits_and_is_interrupted(cast: Cast | None = None) -> House:
    slots = [
        (a, b) for agent in ("agent 1.1", "agent 2.1") for a, b in (("slots", agent), (agent, "slots"))
    ]
    prompt = (*DIRECTORY, *DISK, *LOADS, *EXITS, *slots)
    made = house("/a/x", "/a/y", residents=1, cast=cast, prompt=prompt)
    under_way(made, ("run", "/a/x", "r1", "wait r2", "do"), ("run", "/a/y", "r2"))
    made.call(one=(("interrupt", "/a/x"),), two=(("run", "/a/x", "r3"),))
    return made


@window(PLACE, at_least=6e15)
def who_has_run_after_run_gives_way(cast: Cast | None = None) -> House:
    made = house("/a/x", "/b/y", residents=1, share=0.0, cast=cast, prompt=(*DIRECTORY, *DISK, *EXITS))
    under_way(made, ("run", "/a/x", "r1"), ("run", "/a/x", "r2"))
    made.call(one=(("run", "/b/y", "r3"),), two=(("interrupt", "/a/x", "r1"),))
    return made


@window(PLACE, at_least=2e18)
def who_waits_is_closed(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/y", residents=1, cast=cast, prompt=(*DIRECTORY, *DISK, *EXITS))
    under_way(made, ("run", "/a/x", "r1", "wait r2", "do"), ("run", "/a/y", "r2"))
    made.call(one=(("close", "/a/x"),))
    return made


@window(PLACE, at_least=1e23, long=True)
def who_waits_may_crash(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/y", residents=1, cast=cast, prompt=(*DIRECTORY, *DISK, *EXITS))
    under_way(made, ("run", "/a/x", "r1", "wait r2", "do"), ("run", "/a/y", "r2"))
    made.may_crash = ("agent 1.1",)
    return made


# An interrupt meets a completion

INTERRUPT = "an interrupt meets a completion"


@window(INTERRUPT, at_least=3e7)
def the_code_returns_or_raises(cast: Cast | None = None) -> House:
    made = house("/a/x", residents=1, cast=cast, prompt=DIRECTORY)
    under_way(made, ("run", "/a/x", "r1", "may-fail"), ("run", "/a/x", "r2"))
    made.call(one=(("interrupt", "/a/x"),), two=(("await", "r1"),))
    return made


@window(INTERRUPT, at_least=2e12)
def the_code_may_not_have_begun(cast: Cast | None = None) -> House:
    made = house("/a/x", residents=1, cast=cast, prompt=(*DIRECTORY, *ASKS))
    runs = (("run", "/a/x", "r1", "may-fail"), ("run", "/a/x", "r2"))
    made.call(one=runs, two=(("interrupt", "/a/x"), ("run", "/a/x", "r3")))
    return made


@window(INTERRUPT, at_least=1e11, long=True)
def nothing_is_prompt_but_the_directory(cast: Cast | None = None) -> House:
    made = house("/a/x", residents=1, cast=cast, prompt=DIRECTORY)
    under_way(made, ("run", "/a/x", "r1", "may-fail"), ("run", "/a/x", "r2"))
    made.call(one=(("interrupt", "/a/x"), ("run", "/a/x", "r3")), two=(("await", "r1"),))
    return made


# A close meets an opening

CLOSE = "a close meets an opening"


@window(CLOSE, at_least=1e9)
def it_was_just_spawned(cast: Cast | None = None) -> House:
    made = house(residents=1, cast=cast, prompt=ASKS)
    made.call(one=(("spawn", "/a/x", "fragile"),), two=(("close", "/a/x"),))
    return made


@window(CLOSE, at_least=4e11)
def it_is_on_its_way_from_disk(cast: Cast | None = None) -> House:
    made = house("/a/x", residents=1, cast=cast, prompt=ASKS)
    made.call(setup=(("evict", "/a/x"),))
    made.settle()
    made.call(one=(("run", "/a/x", "r1"),), two=(("close", "/a/x"),))
    return made


@window(CLOSE, at_least=3e7)
def its_turn_is_under_way(cast: Cast | None = None) -> House:
    made = house("/a/x", residents=1, cast=cast, prompt=(*DIRECTORY, *ASKS))
    under_way(made, ("run", "/a/x", "r1", "may-fail"), ("run", "/a/x", "r2"))
    made.call(one=(("close", "/a/x"),))
    return made


@window(CLOSE, at_least=5e13)
def its_path_is_used_again(cast: Cast | None = None) -> House:
    made = house(residents=1, cast=cast, prompt=(*DIRECTORY, *DISK, *EXITS))
    made.call(setup=(("spawn", "/a/x", "fragile"),))
    made.settle(hold=("opens", "fails to open"))
    made.call(
        one=(("close", "/a/x"), ("spawn", "/a/x"), ("run", "/a/x", "r1")),
    )
    return made


@window(CLOSE, at_least=1e10)
def two_want_its_path(cast: Cast | None = None) -> House:
    made = house(residents=1, cast=cast, prompt=(*DIRECTORY, *DISK))
    made.call(setup=(("spawn", "/a/x", "fragile"),))
    made.settle(hold=("opens", "fails to open"))
    made.call(one=(("close", "/a/x"),), two=(("spawn", "/a/x"), ("spawn", "/a/x")))
    return made


@window(CLOSE, at_least=1e18, long=True)
def nothing_is_prompt(cast: Cast | None = None) -> House:
    made = house(residents=1, cast=cast)
    made.call(one=(("spawn", "/a/x", "fragile"),), two=(("close", "/a/x"), ("spawn", "/a/x")))
    return made


# `after` meets the last outcome

AFTER = "after() meets the last outcome"


@window(AFTER, at_least=7e11)
def one_of_two_is_interrupted_meanwhile(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/y", "/a/p", slots=3, cast=cast, prompt=(*DIRECTORY, *DISK))
    after = ("run", "/a/p", "p1", "after c1 c2")
    under_way(made, ("run", "/a/x", "c1"), ("run", "/a/y", "c2"), after)
    made.call(one=(("interrupt", "/a/y"),))
    return made


@window(AFTER, at_least=1e13)
def who_asked_is_evicted(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/p", slots=2, cast=cast, prompt=(*DIRECTORY, *DISK))
    under_way(made, ("run", "/a/x", "c1"), ("run", "/a/p", "p1", "after c1"))
    made.call(one=(("evict", "/a/p"),))
    return made


@window(AFTER, at_least=1e10, long=True)
def the_disk_takes_its_time_meanwhile(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/p", slots=2, cast=cast, prompt=(*DIRECTORY, *ASKS))
    under_way(made, ("run", "/a/x", "c1"), ("run", "/a/p", "p1", "after c1"))
    made.call(one=(("interrupt", "/a/p"),))
    return made


@window(AFTER, at_least=3e15, long=True)
def who_asked_is_evicted_and_interrupted(cast: Cast | None = None) -> House:
    made = house("/a/x", "/a/p", slots=2, cast=cast, prompt=(*DIRECTORY, *DISK))
    under_way(made, ("run", "/a/x", "c1"), ("run", "/a/p", "p1", "after c1"))
    made.call(one=(("interrupt", "/a/p"),), two=(("evict", "/a/p"),))
    return made
