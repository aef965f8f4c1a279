"""Whoever asks an agent that is in memory waits for no disk to find it."""

from typing import Any

import pytest

from greenroom import Runtime, Turn, agent
from greenroom.actors.supervisor import actor as supervisor
from greenroom.persistence.queries import FindAgent
from greenroom.persistence.reader import Reader

AGENTS = 20


@agent(name="in-memory.echo")
def echo(turn: Turn) -> Any:
    return turn.input


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that the disk was asked for, where no more are kept at hand than there must be."""
    monkeypatch.setattr(supervisor, "PATHS_AT_HAND", 0)
    paths: list[str] = []
    read = Reader.read

    def noticed(self: Reader, query: Any, *more: Any) -> object:
        if isinstance(query, FindAgent):
            paths.append(query.path)
        return read(self, query, *more)

    monkeypatch.setattr(Reader, "read", noticed)
    return paths


def asked_in_turn(residents: int) -> None:
    with Runtime(residents=residents) as runtime:
        refs = [runtime.spawn(echo, f"/t/{number}") for number in range(AGENTS)]
        for round_ in range(3):
            for ref in refs:
                assert ref.followup(round_).result() == round_


def test_its_path_is_known_as_long_as_it_may_stay(looked_up: list[str]) -> None:
    asked_in_turn(residents=AGENTS)
    assert looked_up == []


def test_others_are_looked_up(looked_up: list[str]) -> None:
    asked_in_turn(residents=AGENTS - 1)
    assert looked_up
