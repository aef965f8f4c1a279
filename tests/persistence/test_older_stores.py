"""Stores as older versions of greenroom wrote them: kept as they were, opened by this one.

`stores/0.1.0` was made by `stores/make_0_1_0.py`; its owner was killed in the middle of its work.
"""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from greenroom import AgentNotFound, PathTaken, Retention, RunNotFound, Runtime, StoreCorrupt, StoreError
from greenroom.cli import main
from greenroom.persistence.doctor.examination import examine
from greenroom.persistence.reader import Reader
from greenroom.persistence.store import Store
from greenroom.persistence.transfer import export

STORES = Path(__file__).parent / "stores"
FOR_EVER = Retention(run_age=None, runs=None, event_age=None, events=None, closed_age=None, closed=None)


@pytest.fixture
def old(tmp_path: Path) -> str:
    """A copy of the store that 0.1.0 left behind."""
    for file in (STORES / "0.1.0").iterdir():
        shutil.copyfile(file, tmp_path / file.name)
        (tmp_path / file.name).chmod(0o600)  # which a repository does not keep
    return str(tmp_path / "agents.store")


@pytest.fixture
def printers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of its kinds and classes, under the name that its snapshots have."""
    monkeypatch.syspath_prepend(str(STORES))
    import printers

    return printers


def files(store: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(store).parent.iterdir())}


def lines(*command: str) -> list[Any]:
    done = CliRunner().invoke(main, list(command))
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def wrong(store: str) -> dict[str, str]:
    """What `doctor` finds, but for what it only notes."""
    return {found.check: found.what for found in examine(store).findings if found.severity != "note"}


# Looked at


def test_an_older_store_is_looked_at_without_a_change_to_it(old: str) -> None:
    before = files(old)
    listed = {agent["path"]: agent for agent in lines("ls", "--json", "--store", old)}
    assert {path: agent["status"] for path, agent in listed.items()} == {
        "/office/broken": "failed",
        "/office/chief": "idle",
        "/office/chief/worker": "queued",
        "/office/closed": "queued",
        "/office/counter/json": "idle",
        "/office/counter/msgpack": "idle",
        "/office/paper": "idle",
        "/office/plain": "idle",
        "/office/slow": "queued",
    }
    assert [a["path"] for a in lines("ls", "--json", "--status", "closed", "--store", old)] == [
        "/office/closed"
    ]
    assert listed["/office/plain"]["inbox"] == 2
    (plain,) = lines("show", "/office/plain", "--json", "--store", old)
    assert plain["config"] == {"paper": "A4", "margins": [1, 2]}
    assert plain["last_outcome"]["error"].startswith("ValueError: out of ink")
    (counted,) = lines("show", "/office/counter/json", "--json", "--store", old)
    assert counted["state"] == {"count": 7}
    (run,) = lines("show", "cut off", "--json", "--store", old)
    assert (run["status"], run["input"], run["attempt"]) == ("queued", "until it is killed", 1)
    (waiting,) = lines("show", "run-7502a7ac4bd5fc82", "--json", "--store", old)
    assert waiting["awaits"] == ["run-fbe5393b1d97c98e"]
    events = lines("events", "--json", "--since", "0", "--store", old)
    assert [event["seq"] for event in events] == [*range(1, 49), *range(113, 132)]
    (stats,) = lines("stats", "--json", "--store", old)
    assert (stats["agents"], stats["closed"], stats["inbox"], stats["queued"]) == (9, 1, 3, 6)
    assert files(old) == before


def test_a_damaged_list_of_awaited_runs_in_an_older_store_is_told(old: str) -> None:
    """Only from this version on is what a run waits for bound to its signature."""
    with sqlite3.connect(old) as database:
        (run_id,) = database.execute("SELECT run_id FROM runs WHERE awaits <> '[]' LIMIT 1").fetchone()
        database.execute("UPDATE runs SET awaits = '[1' WHERE run_id = ?", (run_id,))
    database.close()
    with pytest.raises(StoreCorrupt, match=f"what run {run_id} waits for cannot be read"):
        Runtime(old).start()


def test_an_older_store_is_examined_and_exported_without_a_change_to_it(old: str, tmp_path: Path) -> None:
    before = files(old)
    assert list(wrong(old)) == ["schema-version"]
    assert examine(old).schema == 2
    with open(tmp_path.parent / f"{tmp_path.name}.jsonl", "wb") as document:
        done = export(old, document)
    assert (done.agents, done.runs, done.messages, done.outside) == (10, 15, 3, 0)
    assert files(old) == before


# Opened


def test_all_that_an_older_store_held_is_there_and_goes_on(old: str, printers: Any) -> None:
    with Runtime(old, kinds=printers.KINDS, retention=FOR_EVER) as runtime:
        plain = runtime.agent("/office/plain")
        info = plain.info()
        assert (info.config, info.version, info.inbox) == ({"paper": "A4", "margins": (1, 2)}, 1, 2)
        assert plain.state() == {"seen": ("one", "two")}
        assert runtime.run("run-1-1").result() == {"seen": ("one",), "mail": []}
        assert runtime.run("run-1-2").result() == {"seen": ("one", "two"), "mail": []}
        failed = runtime.run("order 8/failed").outcome()
        assert (failed.status, failed.error) == (
            "failed", "ValueError: out of ink; at plain (/opt/press/printers.py:21)"
        )  # fmt: skip
        paper = printers.Paper("Semantics", ["page 1"])
        assert runtime.run("order-7").result() == paper == runtime.agent("/office/paper").state()
        assert runtime.agent("/office/counter/json").state() == {"count": 7}
        assert runtime.agent("/office/counter/msgpack").state() == {"raw": b"\x00\xff"}
        broken = runtime.agent("/office/broken").info()
        assert broken.error is not None
        assert (broken.status, broken.config) == ("failed", "toner")
        assert broken.error.startswith("OSError: no toner")
        (closed,) = runtime.list(status="closed")
        assert (closed.path, closed.config) == ("/office/closed", "was here")
        assert runtime.run("run-1-6").result() == {"seen": ("last words",), "mail": []}
        with pytest.raises(AgentNotFound):
            runtime.agent("/office/deleted").info()
        with pytest.raises(RunNotFound):
            runtime.run("run-1-7")

        # what was under way, queued, and waiting
        slow = [runtime.run(run_id) for run_id in ("cut off", "run-2-1", "run-2-2")]
        assert [run.result(60) for run in slow] == [
            "until it is killed, attempt 2", "next, attempt 1", "after that, attempt 1"
        ]  # fmt: skip
        assert runtime.run("order-9").result(60) == {
            "seen": ("waits for a slot",), "mail": [{"note": "unread"}]
        }  # fmt: skip
        worker = "until it is killed, attempt 2"
        assert runtime.run("run-fbe5393b1d97c98e").result(60) == worker
        assert runtime.run("run-7502a7ac4bd5fc82").result(60) == [worker]
        assert runtime.run("run-2-3").result() == "handed over"

        # goes on: known ids are known, numbers go on, mail is read
        assert plain.followup("fail", run_id="order 8/failed").outcome().status == "failed"
        assert plain.followup("three").result(60) == {
            "seen": ("one", "two", "three"), "mail": ["from the chief", "from outside"]
        }  # fmt: skip
        with pytest.raises(PathTaken):
            runtime.spawn(printers.plain, "/office/plain")
        new = runtime.spawn(printers.paper, "/office/new", config={"title": "New"}, input="x").run
        assert new is not None
        assert new.result(60) == printers.Paper("New", ["x"])
        runtime.agent("/office/counter/json").delete()
        seqs = [event.seq for event in runtime.events(since=0, follow=False)]
        assert seqs == sorted(set(seqs))
        assert seqs[-1] > 131

    assert wrong(old) == {}
    with Runtime(old, kinds=printers.KINDS, retention=FOR_EVER) as runtime:
        assert runtime.agent("/office/plain").state() == {"seen": ("one", "two", "three")}
        assert runtime.run("order-7").result() == paper
        assert runtime.run("cut off").outcome().status == "completed"
        with pytest.raises(AgentNotFound):
            runtime.agent("/office/counter/json").info()


def test_a_deleted_agent_of_an_older_store_leaves_those_before_it_at_its_path_alone(
    old: str, printers: Any
) -> None:
    with Runtime(old, kinds=printers.KINDS, retention=FOR_EVER) as runtime:
        runtime.run("order-9").result(60)
        runtime.agent("/office/closed").delete()
        told = [event.seq for event in runtime.events("/office/closed", since=0, follow=False)]
        assert told[:-1] == [34, 35, 36, 37, 38, 39]  # of the one that was closed there before
        assert len(runtime.list(status="closed")) == 1
        assert runtime.run("run-1-6").result() == {"seen": ("last words",), "mail": []}
        runtime.agent("/office/closed").delete()
        told = [event.type for event in runtime.events("/office/closed", since=0, follow=False)]
        assert told == ["agent.deleted", "agent.deleted"]


# Migrated


def test_values_are_bound_to_their_rows_and_altered_ones_stay_refused(old: str) -> None:
    writer = sqlite3.connect(old)
    with writer:
        writer.execute("UPDATE runs SET input = CAST(input || x'00' AS BLOB) WHERE run_id = 'run-1-1'")
    writer.close()
    store, unfinished = Store.open(old, "process")
    assert [run.run_id for run in unfinished.runs] == [
        "cut off", "run-2-1", "run-2-2", "run-fbe5393b1d97c98e", "run-7502a7ac4bd5fc82", "order-9"
    ]  # fmt: skip
    store.close()
    found = wrong(old)
    assert list(found) == ["signatures"]
    assert found["signatures"].startswith("run run-1-1 of /office/plain: input does not carry")


@pytest.mark.parametrize("key", [None, b"k" * 32])
def test_a_store_whose_key_does_not_fit_is_not_migrated(old: str, key: bytes | None) -> None:
    """The seals could not be checked, and would be good for nothing when the right key is back."""
    own = Path(f"{old}.key")
    right = own.read_bytes()
    own.unlink()
    if key is not None:
        own.write_bytes(key)
        own.chmod(0o600)
    with pytest.raises(StoreError, match=r"key file (is missing|back).*nothing was changed"):
        Store.open(old, "process")
    assert own.exists() == (key is not None)
    own.write_bytes(right)
    own.chmod(0o600)
    store, _ = Store.open(old, "process")
    reader = Reader.open(old)
    reader.close()
    store.close()
    assert wrong(old) == {}
