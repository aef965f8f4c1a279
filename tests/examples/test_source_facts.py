"""The pure half of the survey: what a file says, whom it imports, what goes in circles."""

import ast
import gc
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import pytest
import source_facts
from hypothesis import given
from hypothesis import strategies as st
from source_facts import (
    Module,
    analyse,
    analyse_file,
    cycles,
    find_modules,
    imported,
    most_complicated,
)


def facts_of(text: str):
    return analyse(dedent(text).encode())


def branches_of(text: str) -> dict[str, int]:
    return {found.name: found.branches for found in facts_of(text).functions}


EXAMPLES = Path(source_facts.__file__).parent


# Which modules there are


def test_modules_are_the_files_that_can_be_imported_by_name(tree: Path):
    assert list(find_modules(str(tree))) == [
        "_start",
        "app",
        "app.Odd",
        "app._tools",
        "app.core",
        "app.sub",
        "app.sub.__main__",
        "app.sub.deep",
        "app.sub.leaf",
        "broken",
        "encoded",
        "loose.part",
        "misencoded",
        "ring.one",
        "ring.two",
        "shadowed",
        "void",
    ]


def test_a_package_hides_the_file_of_the_same_name(tree: Path):
    assert find_modules(str(tree))["shadowed"] == Module(
        "shadowed", "shadowed", str(tree / "shadowed" / "__init__.py")
    )


def test_a_directory_inside_a_package_keeps_its_full_names(tree: Path):
    assert list(find_modules(str(tree / "app" / "sub"), limit=2)) == [
        "app.sub",
        "app.sub.__main__",
    ]


def test_a_directory_without_modules_has_none(tmp_path: Path):
    assert find_modules(str(tmp_path)) == {}
    assert find_modules(str(tmp_path / "missing")) == {}


# What a file says


def test_size_and_definitions_are_counted():
    facts = facts_of(
        """\
        class A:
            class B:
                async def f(self): pass
        def g():
            def h(): pass
            class C: pass
        """
    )
    assert (facts.lines, facts.classes) == (6, 3)
    assert sorted(facts.functions) == [("A.B.f", 3, 0), ("g", 4, 0), ("g.h", 5, 0)]


def test_public_names_are_those_that_users_of_the_module_see():
    facts = facts_of(
        """\
        if True:
            def conditional(): "Yes."
        def bare():
            def nested(): pass
        class _Private:
            def method(self): pass
        class Public:
            "Yes."
            def method(self): pass
            def _helper(self): pass
            def __init__(self): pass
            @property
            def size(self): "Yes."
            @size.setter
            def size(self, value): pass
        """
    )
    assert facts.documented == ("Public", "Public.size", "conditional")
    assert facts.undocumented == ("Public.method", "bare")


@pytest.mark.parametrize(
    ("body", "branches"),
    [
        ("pass", 0),
        ("if x: pass\nelif y: pass\nelse: pass", 2),
        ("for _ in x: pass\nelse: pass", 1),
        ("while x and y or z: pass", 3),
        ("try: pass\nexcept A: pass\nexcept B: pass\nfinally: pass", 2),
        ("return [a for a in x if a if b for c in a]", 4),
        ("return x if y else z", 1),
        ("match x:\n    case 1: pass\n    case _: pass", 2),
        ("with x: assert y", 0),
        ("return lambda: x or y", 1),
        ("class Local:\n    size = 1 if x else 2", 1),
    ],
)
def test_branches_are_the_places_where_a_function_may_go_two_ways(body: str, branches: int):
    text = "def f(x):\n" + "\n".join(f"    {line}" for line in body.splitlines())
    assert branches_of(text)["f"] == branches


def test_a_nested_function_has_branches_of_its_own():
    text = """\
        if x: pass
        def outer():
            if x: pass
            def inner():
                if x or y: pass
        """
    assert branches_of(text) == {"outer": 1, "outer.inner": 2}


@pytest.mark.parametrize("text", ["print 'two'", "x = (", "\0", "# coding: no-such-codec"])
def test_what_cannot_be_parsed_is_unreadable_and_keeps_its_size(text: str):
    facts = analyse(text.encode())
    assert facts.unreadable
    assert facts.counts()["bytes"] == len(text)
    assert facts.counts()["unreadable"] == 1
    assert facts.counts()["functions"] == 0


def test_deep_nesting_is_read_or_unreadable_but_no_error():
    assert analyse(("-" * 100_000 + "1").encode()).counts()["modules"] == 1
    assert analyse(b"x = " + b"+".join([b"1"] * 3_000)).counts()["modules"] == 1


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path):
    assert analyse_file(str(tmp_path / "gone.py")).unreadable.startswith("FileNotFoundError")


def test_threads_can_analyse_at_once(request: pytest.FixtureRequest):
    def change_threads(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    # A callback of the collector is where one thread can run amid the parser's work for another.
    gc.callbacks.append(change_threads)
    request.addfinalizer(lambda: gc.callbacks.remove(change_threads))
    sources = [Path(ast.__file__).read_bytes(), Path(subprocess.__file__).read_bytes()] * 8
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(analyse, sources)) == [analyse(source) for source in sources]


def test_warnings_about_surveyed_source_are_not_shown():
    program = "from source_facts import analyse; analyse(b\"x = '\\\\d'\")"
    command = [sys.executable, "-W", "default", "-c", program]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=True)
    assert done.stderr == ""


# Whom it imports

KNOWN = {
    name: Module(name, package, "")
    for name, package in {
        "top": "",
        "p": "p",
        "p.m": "p",
        "p.q": "p.q",
        "p.q.n": "p.q",
        "space.inside": "space",
    }.items()
}


@pytest.mark.parametrize(
    ("statement", "importer", "meant"),
    [
        ("import top", "p", ["top"]),
        ("import elsewhere", "p", []),
        ("import p.m", "top", ["p.m"]),
        ("import p.q.n as short, top", "p.m", ["p.q.n", "top"]),
        ("import top.attribute", "p", ["top"]),
        ("import p.missing.too", "top", ["p"]),
        ("from p import m", "top", ["p.m"]),
        ("from p import name", "top", ["p"]),
        ("from p import m, name, q", "top", ["p", "p.m", "p.q"]),
        ("from p import *", "top", ["p"]),
        ("from p.q.n import name, other", "top", ["p.q.n"]),
        ("from space import inside, outside", "top", ["space.inside"]),
        ("import space", "top", []),
        ("from . import m", "p", ["p.m"]),
        ("from . import name", "p.m", ["p"]),
        ("from .q import n", "p.m", ["p.q.n"]),
        ("from . import n", "p.q", ["p.q.n"]),
        ("from .. import m", "p.q.n", ["p.m"]),
        ("from ..m import name", "p.q", ["p.m"]),
        ("from ... import top", "p.q", []),
        ("from . import p", "top", []),
        ("from . import name", "p", []),
        ("import p.m", "p.m", []),
    ],
)
def test_an_import_means_the_nearest_known_module(statement: str, importer: str, meant: list[str]):
    assert list(imported(analyse(statement.encode()).imports, KNOWN[importer], KNOWN)) == meant


def test_imports_that_do_not_run_on_loading_are_lazy():
    facts = facts_of(
        """\
        import top
        if TYPE_CHECKING:
            import p
        if __name__ == "__main__":
            import p.m
        def f():
            import top, p.q
        class C:
            if sys.version_info > (3,):
                import p.q.n
        """
    )
    assert imported(facts.imports, Module("me", "", ""), KNOWN) == {
        "p": True,
        "p.m": True,
        "p.q": True,
        "p.q.n": False,
        "top": False,
    }


# What goes in circles


def test_cycles_are_the_groups_that_reach_each_other():
    importers = {
        "a": ["b"],
        "b": ["c"],
        "c": ["a", "d"],
        "d": [],
        "x": ["y"],
        "y": ["x", "a"],
        "alone": ["alone"],
    }
    assert cycles(importers) == [["a", "b", "c"], ["x", "y"]]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_cycles_agree_with_walking_everywhere(edges: list[tuple[int, int]]):
    names = "abcdefgh"
    importers: dict[str, list[str]] = {name: [] for name in names}
    for one, other in edges:
        importers[names[one]].append(names[other])

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = list(importers[start])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += importers[name]
        return seen

    reach = {name: reached(name) for name in names}
    groups = {
        frozenset({name} | {other for other in reach[name] if name in reach[other]}) for name in names
    }
    expected = sorted(sorted(group) for group in groups if len(group) > 1)
    assert sorted(cycles(importers)) == expected


def test_a_long_chain_needs_no_deep_stack():
    names = [f"m{number:06}" for number in range(50_000)]
    ring = {name: [after] for name, after in zip(names, names[1:] + names[:1], strict=True)}
    assert cycles(ring) == [names]


def test_a_ranking_does_not_depend_on_the_order_it_was_gathered_in():
    rows = [
        {"module": module, "function": "f", "line": line, "branches": branches}
        for module in "ba"
        for line in (2, 1)
        for branches in (3, 5)
    ]
    ranked = most_complicated(rows)
    assert ranked == most_complicated(reversed(rows))
    assert [(row["branches"], row["module"], row["line"]) for row in ranked[:3]] == [
        (5, "a", 1),
        (5, "a", 2),
        (5, "b", 1),
    ]
