"""Codecs, versions and configs through the Runtime: what comes back, and what fails alone and is kept."""

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenroom import AsyncRuntime, Runtime, SnapshotUnreadable, Turn, agent

CODECS = ["cloudpickle", "json", "msgpack"]


@agent(name="d-snap-other")
async def other(turn: Turn) -> Any:
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]


def snapshots(store: Path) -> dict[str, tuple[str, int, bytes]]:
    """What is stored of each agent, by path: codec, version and sealed bytes."""
    with sqlite3.connect(store) as database:
        rows = database.execute(
            "SELECT path, codec, snapshots.version, data FROM snapshots JOIN agents USING (agent_id)"
        ).fetchall()
    database.close()
    return {path: rest for path, *rest in rows}


# Versions


def stored_by_version_2(store: Path, name: str, state: dict[str, Any] | None = None) -> None:
    @agent(name=name, version=2, state=lambda: dict(state or {"pages": ["one", "two"]}))
    async def writes(turn: Turn) -> None:
        turn.state["written by"] = 2

    with Runtime(store) as first:
        for path in ("/bad/a", "/bad/b"):
            first.spawn(writes, path, input=1).run.result(timeout=60)
        first.spawn(other, "/good/a", input=1).run.result(timeout=60)


def hangs(state: Any, version: int) -> Any:
    hanging.wait(600)
    return state


hanging = threading.Event()


def newer(name: str, version: int, migrate: Callable[[Any, int], Any] | None, **options: Any) -> Any:
    @agent(name=name, version=version, migrate=migrate, **options)
    async def reads(turn: Turn) -> Any:
        return turn.state

    return reads


def raises(state: Any, version: int) -> Any:
    state.clear()
    raise LookupError(f"no way from {version}")


BAD: dict[str, tuple[int, Callable[[Any, int], Any] | None, str]] = {
    "raises": (3, raises, "LookupError: no way from 2"),
    "returns what cannot be stored": (3, lambda state, version: threading.Event(), "cannot pickle"),
    "is missing": (3, None, "of version 2 of kind '{name}', which is now 3 and has no migrate="),
    "hangs": (3, hangs, "took longer than 0.1 s"),
    "is for older states": (1, raises, "of version 2 of kind '{name}', which is newer than 1"),
}


@pytest.mark.parametrize("where", ["in the same process", "after a restart"])
@pytest.mark.parametrize("how", BAD)
def test_a_migration_that_is_no_good_fails_that_agent_alone_until_it_is_corrected(
    tmp_path: Path, how: str, where: str
) -> None:
    store, name = tmp_path / "agents.db", f"d-snap-{how}-{where}"
    stored_by_version_2(store, name)
    before = snapshots(store)
    version, migrate, says = BAD[how]
    newer(name, version, migrate, open_timeout=0.1)
    second = Runtime(store).start()
    try:
        ref = second.agent("/bad/a")
        for _ in range(2):
            outcome = ref.followup(1).outcome(timeout=60)
            assert outcome.status == "failed"
            assert outcome.started_at is None, "its code did not begin"
            assert says.format(name=name) in outcome.error
            assert "/bad/a" in outcome.error
            assert "The bytes are kept" in outcome.error
            assert ref.info().status == "failed"
            assert says.format(name=name) in (ref.info().error or "")
        assert second.agent("/good/a").followup(1).result(timeout=60) == 2
        if how == "hangs":
            assert second.agent("/good/a").followup(1).result(timeout=60) == 3
        else:
            with pytest.raises(SnapshotUnreadable, match="/bad/a"):
                ref.state()
        if where == "after a restart":
            second.close()
        assert {path: row for path, row in snapshots(store).items() if "bad" in path} == {
            path: row for path, row in before.items() if "bad" in path
        }
        hanging.set()
        newer(name, 4, lambda state, version: {**state, "from": version}, open_timeout=10)
        if where == "after a restart":
            second = Runtime(store).start()
            ref = second.agent("/bad/a")
        good = {"pages": ["one", "two"], "written by": 2, "from": 2}
        assert ref.followup(1).result(timeout=60) == good, "the bytes were kept"
        assert ref.info().status == "idle"
        assert ref.info().version == 4
        assert second.agent("/bad/b").state() == good
    finally:
        hanging.set()
        second.close()
        hanging.clear()


def test_an_async_migration_is_refused_where_it_is_registered() -> None:
    async def migrate(state: Any, version: int) -> Any:
        return state

    with pytest.raises(TypeError, match="migrate= is a plain function"):
        newer("d-snap-async", 2, migrate)
    with pytest.raises(TypeError, match="state= is a plain function"):
        agent(name="d-snap-async-state", state=migrate)(other)  # type: ignore[arg-type]


def test_a_migration_does_not_hold_the_others_up(tmp_path: Path) -> None:
    """It goes on for as long as it takes others to work."""
    store = tmp_path / "agents.db"
    stored_by_version_2(store, "d-snap-slow")
    begun, enough = threading.Event(), threading.Event()

    def migrate(state: Any, version: int) -> Any:
        begun.set()
        assert enough.wait(600)
        return state

    newer("d-snap-slow", 3, migrate)
    with Runtime(store) as second:
        slow = second.agent("/bad/a").followup(1)
        assert begun.wait(600)
        assert second.agent("/good/a").followup(1).result(timeout=60) == 2
        enough.set()
        assert slow.result(timeout=60)["pages"] == ["one", "two"]


def test_a_turn_that_fails_after_a_migration_leaves_the_old_bytes(tmp_path: Path) -> None:
    store = tmp_path / "agents.db"
    stored_by_version_2(store, "d-snap-fails-after")
    before = snapshots(store)["/bad/a"]

    @agent(name="d-snap-fails-after", version=3, migrate=lambda state, version: {"moved": state})
    async def fails(turn: Turn) -> Any:
        turn.state["touched"] = True
        if turn.input == "fail":
            raise LookupError("failed")
        return sorted(turn.state)

    with Runtime(store) as second:
        ref = second.agent("/bad/a")
        assert ref.followup("fail").outcome(timeout=60).status == "failed"
        assert snapshots(store)["/bad/a"] == before
        assert ref.followup("work").result(timeout=60) == ["moved", "touched"]
    codec, version, _ = snapshots(store)["/bad/a"]
    assert (codec, version) == ("cloudpickle", 3)


@pytest.mark.parametrize("codec", CODECS)
def test_a_kind_may_choose_another_codec_later(tmp_path: Path, codec: str) -> None:
    """What is stored says how it is to be read, not the kind."""
    store = tmp_path / "agents.db"
    name = f"d-snap-codec-{codec}"
    for version, chosen in enumerate((codec, "cloudpickle", "msgpack", "json"), start=1):

        @agent(name=name, version=version, codec=chosen, migrate=lambda state, _: state)
        async def counts(turn: Turn, chosen: str = chosen) -> Any:
            turn.state["n"] = turn.state.get("n", 0) + 1
            turn.state["text"] = "ü" * 400_000
            return turn.state["n"]

        with Runtime(store) as runtime:
            ref = runtime.agent("/codec/a") if version > 1 else runtime.spawn(counts, "/codec/a")
            assert ref.followup(1).result(timeout=60) == version
        assert snapshots(store)["/codec/a"][:2] == [f"{chosen}+zlib", version]


# Configs


CONFIG = {
    "model": None,
    "temperature": 0.0,
    "tools": [],
    "limits": {"tokens": None, "calls": 0, "on": False, "": ""},
    "tuple": (1, None, (2,)),
    "set": frozenset({None, 1}),
    1: "a key that is a number",
    None: "a key that is none",
}


@agent(name="d-snap-config")
async def shows_config(turn: Turn) -> Any:
    turn.config["changed by the turn"] = True
    return repr(turn.config)


def test_a_config_comes_back_key_by_key_none_included(tmp_path: Path) -> None:
    store = tmp_path / "agents.db"
    shown = repr({**CONFIG, "changed by the turn": True})
    with Runtime(store) as first:
        ref = first.spawn(shows_config, "/config/a", config=CONFIG)
        none = first.spawn(shows_config, "/config/none", config=None)
        assert ref.followup(1).result(timeout=60) == shown
        assert ref.followup(1).result(timeout=60) == shown
        assert ref.evict()
        assert not ref.info().resident
        assert ref.info().config == CONFIG
        assert ref.followup(1).result(timeout=60) == shown
        assert none.info().config is None
    with Runtime(store) as second:
        ref = second.agent("/config/a")
        assert repr(ref.info().config) == repr(CONFIG)
        assert ref.followup(1).result(timeout=60) == shown
        assert second.agent("/config/none").info().config is None


# Other processes


def test_the_code_of_another_process_can_read_what_lives_in_main(tmp_path: Path) -> None:
    """Small and large: both are pickled by value."""
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent("""
            import sys
            from greenroom import Runtime, agent

            class Notes:
                def __init__(self):
                    self.lines = []

            @agent(name="d-snap-main", state=Notes)
            async def notes(turn):
                turn.state.lines += [f"{n} {turn.input}" for n in range(int(turn.input))]
                return len(turn.state.lines)

            with Runtime(sys.argv[1]) as runtime:
                for path, count in (("/main/small", 3), ("/main/large", 60_000)):
                    try:
                        ref = runtime.spawn(notes, path)
                    except Exception:
                        ref = runtime.agent(path)
                    print(ref.followup(str(count)).result(timeout=600))
        """)
    )
    outputs = [
        subprocess.run(
            [sys.executable, script, str(tmp_path / "agents.db")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert outputs == [["3", "60000"], ["6", "120000"]]
    rows = snapshots(tmp_path / "agents.db")
    assert rows["/main/small"][0] == "cloudpickle"
    assert rows["/main/large"][0] == "cloudpickle+zlib"


def test_an_async_caller_is_told_the_same(tmp_path: Path) -> None:
    store, name = tmp_path / "agents.db", "d-snap-async-caller"
    stored_by_version_2(store, name, {"pages": ["p" * 1000] * 500})

    async def story() -> None:
        newer(name, 3, raises)
        async with AsyncRuntime(store) as runtime:
            ref = await runtime.agent("/bad/a")
            with pytest.raises(SnapshotUnreadable, match="no way from 2"):
                await ref.state()
            newer(name, 4, lambda state, version: {**state, "from": version})
            assert (await ref.state())["from"] == 2

    asyncio.run(story())
