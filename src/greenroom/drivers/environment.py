"""The environment of a program: its environment, its folder, its limits. And what nobody else gets.

A program's environment is what its kind says, and a few names without which hardly any program runs
(`BASICS`). Nothing else of the runtime's own environment is handed on: it holds the keys of others.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from ..actors.models import AgentInfo
from ..actors.processes.protocol import ProgramToStart
from ..borders import shown
from ..errors import ProcessFailed

BASICS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
"""Handed on from the runtime's environment, unless the kind sets them or says None."""

SECRETIVE = re.compile(r"key|token|secret|passw|credential|auth|cookie", re.IGNORECASE)
"""Names of what is a secret."""

HIGHEST_LIMIT = 1 << 60
"""Of any limit: the system counts them in 64 bits."""

SHORTEST_SECRET = 6
"""Characters: what is shorter is masked nowhere, or half of all words were."""

Env: TypeAlias = Mapping[str, str | None] | Callable[[AgentInfo], Mapping[str, str | None]] | None
Cwd: TypeAlias = str | os.PathLike[str] | Callable[[AgentInfo], str | os.PathLike[str]] | None


class Limits(Struct, frozen=True, kw_only=True):
    """The resources of the processes of one kind. None is no limit.

    `processes`: how many there are at a time; others wait in order, without a slot. The rest is for each
    process by itself, and inherited by what it starts: `memory` is bytes of address space (programs on
    Node, Go or Java reserve many gigabytes that they never use). `cpu` is seconds of computing. A program
    that waits uses none: `turn_timeout` bounds that. `files` are open files, `file_size` is bytes of a file
    that it writes.
    """

    processes: int | None = None
    memory: int | None = None
    cpu: int | None = None
    files: int | None = None
    file_size: int | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= HIGHEST_LIMIT:
                raise ValueError(
                    f"{name}= is an int from 1 to {HIGHEST_LIMIT:,} or None, not {shown(value)}"
                )

    @property
    def of_system(self) -> dict[str, int]:
        """By the system's names."""
        known = {
            "AS": self.memory, "CPU": self.cpu, "NOFILE": self.files, "FSIZE": self.file_size, "CORE": 0,
        }  # fmt: skip
        return {name: value for name, value in known.items() if value is not None}


class Setting(Struct, frozen=True):
    """How the programs of a kind are executed: checked, and the same for all of its agents."""

    argv: tuple[str, ...]
    cwd: Any  # a `Cwd`
    env: Any  # an `Env`
    limits: Limits

    def program(self, info: AgentInfo) -> "tuple[ProgramToStart, Mask]":
        """The program for one agent, and what must not be told of what it got.

        Both of one call of `env`, which may make a key for each start. Raises `ProcessFailed` for a folder
        that is none, and whatever the kind's functions raise.
        """
        folder = self._folder(info)
        if not os.path.isdir(folder):
            raise ProcessFailed(info.path, f"there is no folder {folder} for it to work in")
        said = checked_env(self.env(info) if callable(self.env) else self.env)
        given = {name: value for name, value in said.items() if value is not None}
        found = {name: os.environ[name] for name in BASICS if name in os.environ and name not in said}
        return ProgramToStart(self.argv, {**found, **given}, folder, self.limits.of_system), mask_of(
            info, given
        )

    def _folder(self, info: AgentInfo) -> str:
        """Where it works, as an absolute path."""
        cwd = self.cwd(info) if callable(self.cwd) else self.cwd
        return os.path.abspath(os.fspath(cwd)) if cwd is not None else os.getcwd()


def mask_of(info: AgentInfo, given: Mapping[str, str]) -> "Mask":
    """Variables that an agent must not get: what is secret by its name, in its config or in what the kind's
    `env` gave, and whatever of its config is in the environment."""
    secrets = [value for name, value in given.items() if SECRETIVE.search(name)]
    for name, value in _texts(info.config):
        if SECRETIVE.search(name) or any(value in other for other in given.values() if value):
            secrets.append(value)
    return Mask(secrets)


class Mask:
    """Takes secrets out of what is told: in events, errors and the log."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
        self._secrets = sorted(found, key=len, reverse=True)  # one may be a part of another

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text

    def value(self, value: Any) -> Any:
        """The same for JSON-like data; what is nested too deeply to be gone through becomes its text."""
        if not self._secrets:
            return value
        try:
            return self._value(value)
        except RecursionError:
            return self.text(msgspec.json.encode(value).decode())

    def _value(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self._value(key): self._value(item) for key, item in value.items()}
            case list() | tuple():
                return [self._value(item) for item in value]
            case _:
                return value


def setting(argv: object, cwd: object, env: object, limits: object) -> Setting:
    """Checked. Raises `TypeError` or `ValueError`."""
    if isinstance(argv, str | bytes) or not isinstance(argv, Iterable):
        raise TypeError(f"a command is a list like ['program', 'argument'], not {shown(argv)}")
    words = tuple(os.fspath(word) if isinstance(word, Path) else word for word in argv)
    if not words or not all(isinstance(word, str) for word in words):
        raise TypeError(f"a command is a list of str with the program first, not {shown(list(words))}")
    if not words[0] or any("\0" in word for word in words):
        raise ValueError(f"a command names a program and holds no NUL, unlike {shown(list(words))}")
    if cwd is not None and not callable(cwd) and not isinstance(cwd, str | os.PathLike):
        raise TypeError(f"cwd= is a folder, a function of the agent's info, or None, not {shown(cwd)}")
    if not callable(env):
        checked_env(env)
    if limits is not None and not isinstance(limits, Limits):
        raise TypeError(f"limits= is a Limits, not {shown(limits)}")
    return Setting(words, cwd, dict(env) if isinstance(env, Mapping) else env, limits or Limits())


def checked_env(env: object) -> dict[str, str | None]:
    """A kind's `env`; its values never stand in the error."""
    if env is None:
        return {}
    if not isinstance(env, Mapping):
        raise TypeError(f"env= is a mapping of names to str or None, not {type(env).__name__}")
    for name, value in env.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ValueError(f"env= has {name!r}, which is no name of a variable")
        if value is not None and (not isinstance(value, str) or "\0" in value):
            raise TypeError(f"env= gives {name} a {type(value).__name__}, and a str without NUL is needed")
    return dict(env)


def _texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Every str in a config, with the names above it."""
    match value:
        case str():
            yield name, value
        case dict():
            for key, item in value.items():
                yield from _texts(item, f"{name} {key}")
        case list() | tuple():
            for item in value:
                yield from _texts(item, name)
