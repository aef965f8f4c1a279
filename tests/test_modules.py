"""A module is a page with one idea, and a name means one thing."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60

TOO_LONG = {
    "actors/agent/actor.py": 530,
    "actors/systems/local.py": 440,
}
"""Modules that still hold several ideas, and the lines that each has at most. They only get shorter."""

LONG_FUNCTIONS = {"tables"}
"""The schema's first version, which is never changed."""

SAME_EVERYWHERE = {"__all__", "log"}


def modules() -> Iterator[Path]:
    for folder in ("actors", "persistence", "src/greenroom"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(part.is_symlink() for part in path.relative_to(ROOT).parents if part.name) and (
                folder != "src/greenroom"
                or path.relative_to(ROOT / folder).parts[0] not in ("actors", "persistence")
            ):
                yield path


MODULES = {str(path.relative_to(ROOT)): path for path in modules()}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_a_page(name: str) -> None:
    lines = len(MODULES[name].read_text().splitlines())
    assert lines <= TOO_LONG.get(name, MOST_LINES)


def test_what_is_excused_is_there_and_still_too_long() -> None:
    for name in TOO_LONG:
        assert len(MODULES[name].read_text().splitlines()) > MOST_LINES, f"{name} needs no excuse any more"


@pytest.mark.parametrize("name", MODULES)
def test_a_function_is_seen_at_a_glance(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in LONG_FUNCTIONS:
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MOST_LINES_OF_A_FUNCTION, node.name


def test_no_class_name_stands_for_two_things() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_no_constant_has_two_values() -> None:
    values: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                if isinstance(target, ast.Name) and target.id.isupper() and len(target.id) > 1:
                    values[target.id][ast.unparse(node.value)].append(name)  # type: ignore[attr-defined]
    allowed = {"CHECKS", "HANDLERS", "_HOMES"}  # of each group of checks, of addresses, of public names
    assert {
        name: dict(found) for name, found in values.items() if len(found) > 1 and name not in allowed
    } == {}
