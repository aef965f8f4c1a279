"""What a script's own classes are after it was started again: its own classes, as they are now."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import abc, collections, dataclasses, enum, sys, typing
from greenroom import Runtime, SyncTurn, Turn, agent

class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"

    def told(self):
        return f"{self.value} as of VERSION"

class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()

class Level(enum.IntEnum):
    LOW = 1

@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 0

    def told(self):
        return f"{self.x} as of VERSION"

@dataclasses.dataclass(slots=True)
class Slotted:
    x: int

class Pair(typing.NamedTuple):
    left: int
    right: int

class Named(collections.namedtuple("Named", "a b")):
    pass

class Base(abc.ABC):
    made = 0

    @abc.abstractmethod
    def told(self): ...

class Outer(Base):
    class Inner:
        class Color(enum.Enum):
            RED = "inner"

        def told(self):
            return "inner as of VERSION"

    def told(self):
        return "outer as of VERSION"

class Problem(Exception):
    pass

def local():
    class Point:  # not the other one
        def told(self):
            return "local"
    return Point()

def values():
    return {
        "members": [Color.RED, Rights.READ | Rights.WRITE, Level.LOW, Outer.Inner.Color.RED],
        "classes": [Color, Point, Slotted, Outer.Inner, Base, Problem],
        "equal": [Point(1, 2), Slotted(3), Pair(1, 2), Named(1, 2)],
        "objects": [Outer(), Outer.Inner(), Problem("text")],
        "local": local(),
        "large": [Point(n) for n in range(SIZE)],
    }

def check(stored):
    here = values()
    assert [a is b for a, b in zip(stored["members"], here["members"])] == [True] * 4, stored["members"]
    assert [a is b for a, b in zip(stored["classes"], here["classes"])] == [True] * 6, stored["classes"]
    assert stored["equal"] == here["equal"]
    assert [type(a) is type(b) for a, b in zip(stored["equal"], here["equal"])] == [True] * 4
    assert [type(a) is type(b) for a, b in zip(stored["objects"], here["objects"])] == [True] * 3
    assert isinstance(stored["objects"][0], Base)
    assert len({stored["equal"][0], Point(1, 2)}) == 1
    assert stored["members"][0].told() == "red as of VERSION"
    assert stored["equal"][0].told() == "1 as of VERSION"
    assert [one.told() for one in stored["objects"][:2]] == ["outer as of VERSION", "inner as of VERSION"]
    assert stored["local"].told() == "local" and type(stored["local"]) is not Point
    assert type(stored["local"]).__qualname__ == "local.<locals>.Point"
    assert all(type(one) is Point for one in stored["large"])
    assert Base.made == 0 or Base.made == MADE, Base.made  # no class was set back

MADE = 7
Base.made = MADE  # after the class statement, as of this program

@agent
async def keeps(turn: Turn):
    if not turn.state:
        turn.state.update(values())
        return turn.input
    for stored in (turn.state, turn.input, turn.config, turn.inbox[0].body):
        check(stored)
    return turn.input

with Runtime("agents.db") as runtime:
    if [info.path for info in runtime.list("/t")] == []:
        ref = runtime.spawn(keeps, "/t/a", config=values())
        check(ref.followup(values(), run_id="first").result(600))
        ref.send(values())
    else:
        ref = runtime.agent("/t/a")
        check(runtime.run("first").result(600))
        check(ref.info().config)
        check(ref.followup(values()).result(600))
        check(ref.state())
        ref.send(values())
    print("as it should be")
"""


def run(folder: Path, version: str, size: int) -> None:
    """The script again, after somebody has worked on it."""
    script = folder / "program.py"
    script.write_text(SCRIPT.replace("VERSION", version).replace("SIZE", str(size)))
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout == "as it should be\n", done.stderr


@pytest.mark.parametrize("size", [10, 15_000])
def test_a_script_that_is_started_again_finds_its_own_classes(tmp_path: Path, size: int) -> None:
    for version in ("one", "two", "three"):
        run(tmp_path, version, size)


OTHERS = """
import enum, sys
from greenroom import Runtime, Turn, agent

if "with" in sys.argv:
    class Color(enum.Enum):
        RED = "red"

    class Plain:
        def told(self):
            return "as it was stored"

@agent
async def keeps(turn: Turn):
    return turn.state.setdefault("it", turn.input)

def told(found):
    return found[0].name, type(found[0]).__qualname__, found[1].told(), type(found[1]).__module__

with Runtime("agents.db") as runtime:
    if "with" in sys.argv:
        runtime.spawn(keeps, "/t/a", input=[Color.RED, Plain()]).run.result(600)
    found = runtime.agent("/t/a").followup(None).result(600)
    assert told(found) == ("RED", "Color", "as it was stored", "__main__"), told(found)
    print("as it should be")
"""


def test_a_script_without_the_classes_has_them_as_they_were_stored(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(OTHERS)
    for words in (["with"], [], []):
        command = [sys.executable, str(script), *words]
        done: Any = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout == "as it should be\n", done.stderr
