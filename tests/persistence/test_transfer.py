"""Agents as a document, and the document in another store."""

import asyncio
import io
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from greenroom import (
    GreenroomError,
    PathTaken,
    RunFailed,
    RunIdTaken,
    Runtime,
    SnapshotTampered,
    StoreInUse,
    Turn,
    agent,
)
from greenroom.persistence import doctor, transfer
from greenroom.persistence.keys import read_key
from greenroom.persistence.transfer import document, importing
from greenroom.persistence.transfer.document import RunRecord, Sealing, header_of, lines_of
from greenroom.types import RunId

executed: list[str] = []


def execute() -> None:
    executed.append("boom")


class Bomb:
    def __reduce__(self) -> Any:
        return execute, ()


@agent(name="transfer-keeper")
async def keeper(turn: Turn) -> Any:
    turn.state["n"] = turn.state.get("n", 0) + 1
    turn.state["f"] = lambda x: x + 1  # only a pickle can hold it
    match turn.input:
        case "fail":
            raise ValueError("it went wrong")
        case "family":
            child = await turn.spawn(plain, "child")
            await turn.after(await child.followup("born"), input="and on")
    return {turn.input, "as a set"}


@agent(name="transfer-plain", codec="json")
async def plain(turn: Turn) -> Any:
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.input


@agent(name="transfer-absent", version=3)
async def absent(turn: Turn) -> Any:
    return turn.input


@agent(name="transfer-broken")
class Broken:
    def open(self, info: Any) -> None:
        raise OSError("no such thing")

    def run(self, turn: Any) -> None: ...


def fill(store: Path) -> None:
    """A store with a little of everything."""
    with Runtime(store) as runtime:
        ref = runtime.spawn(keeper, "/team/keeper", config={"depth": 3})
        for given in ("first", "fail", "family"):
            with suppress(RunFailed):
                ref.followup(given).result(60)
        runtime.run(last_continuation(runtime)).result(60)
        ref.send({"unread": 1})
        ref.send("unread, too")
        gone = runtime.spawn(plain, "/team/gone", input="last words")
        assert gone.run is not None
        gone.run.result(60)
        gone.close()
        runtime.spawn(plain, "/team/gone", input="again", run_id="mine").followup("more").result(60)
        broken = runtime.spawn(Broken, "/zoo/broken", input=1)
        assert broken.run is not None
        with pytest.raises(RunFailed):
            broken.run.result(60)


def last_continuation(runtime: Runtime) -> str:
    accepted = [
        event for event in runtime.events("/team/keeper", since=0, follow=False) if "after" in event.data
    ]
    return str(accepted[-1].run_id)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("source") / "agents.db"
    fill(store)
    return store


@pytest.fixture(scope="module")
def exported(source: Path) -> bytes:
    return export(source)


def export(store: Path, **options: Any) -> bytes:
    out = io.BytesIO()
    transfer.export(str(store), out, **options)
    return out.getvalue()


def put(store: Path, data: bytes, key: bytes) -> transfer.Imported:
    return transfer.import_agents(str(store), io.BytesIO(data), key, "the document")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rows(store: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def problems(store: Path) -> list[str]:
    return [finding.what for finding in doctor.examine(str(store)).findings if finding.severity != "note"]


def contents(data: bytes) -> list[dict[str, Any]]:
    """The lines without what differs from store to store."""
    lines = [json.loads(line) for line in data.splitlines()]
    agents = {line["agent_id"]: line["path"] for line in lines if line["type"] == "agent"}
    for line in lines:
        for name in ("seal", "key", "epoch", "at" if line["type"] == "greenroom-export" else "", "serial"):
            line.pop(name, None)
        if "agent_id" in line:
            line["agent_id"] = agents[line["agent_id"]]
    return lines


# There and back


def test_all_of_it_comes_back(source: Path, exported: bytes, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    done = put(target, exported, read_key(str(source)))
    assert (done.agents, done.messages, done.waiting) == (5, 2, 0)
    assert contents(export(target)) == contents(exported)
    assert problems(target) == []
    assert read_key(str(target)) != read_key(str(source))
    with Runtime(source) as one, Runtime(target) as two:
        for path in ("/team/keeper", "/team/keeper/child", "/team/gone", "/zoo/broken"):
            assert two.agent(path).info() == one.agent(path).info()
        assert [i.path for i in two.list(status="closed")] == ["/team/gone"]
        state = two.agent("/team/keeper").state()
        assert (state["n"], state["f"](1)) == (3, 2)
        before = {row[0] for row in rows(target, "SELECT run_id FROM runs")}
        run = two.agent("/team/keeper").followup("more")
        assert run.run_id not in before
        assert run.result(60) == {"more", "as a set"}
        assert two.agent("/team/keeper").info().inbox == 0


def test_events_tell_of_what_came(source: Path, exported: bytes, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    put(target, exported, read_key(str(source)))
    with Runtime(target) as runtime:
        events = list(runtime.events("/team/keeper", since=0, follow=False))
    assert all(event.data["imported"] for event in events)
    kinds = [event.type for event in events]
    assert kinds.count("agent.spawned") == 2
    assert kinds.count("run.completed") == 4
    assert kinds.count("run.failed") == 1


def test_runs_that_had_not_ended_are_executed_there(tmp_path: Path) -> None:
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    with Runtime(source) as runtime:
        runtime.spawn(plain, "/t/a")
        for n in range(3):
            runtime.agent("/t/a").followup(n, run_id=f"r{n}").result(60)
    # as if their process had been killed in the turn of r1, with r2 behind it
    change(
        source, "UPDATE runs SET status = 'accepted', result = NULL, ended_at = NULL WHERE run_id <> 'r0'"
    )
    change(source, "UPDATE runs SET attempt = 0, started_at = NULL WHERE run_id = 'r2'")
    change(source, "UPDATE agents SET last_run_id = 'r0' WHERE path = '/t/a'")
    change(source, "DELETE FROM superseded")
    done = put(target, export(source), read_key(str(source)))
    assert done.waiting == 2
    with Runtime(target) as runtime:
        assert [runtime.run(f"r{n}").result(60) for n in (1, 2)] == [1, 2]
        assert runtime.run("r1").outcome().attempt == 2
        assert runtime.run("r2").outcome().attempt == 1


@pytest.mark.parametrize("awaited", [True, False])
def test_a_run_that_is_begun_again_there_finds_what_it_had_started(tmp_path: Path, awaited: bool) -> None:
    """Its child's run has ended here, or begins anew there as well; neither is started twice."""
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    reached, begun = threading.Event(), []

    @agent(name="transfer-kid")
    async def kid(turn: Turn) -> Any:
        begun.append(turn.path)
        if not awaited and len(begun) == 1:
            reached.set()
            await asyncio.Event().wait()
        return turn.input

    @agent(name="transfer-chief")
    async def chief(turn: Turn) -> Any:
        run = await (await turn.spawn(kid, "kid")).followup("fact")
        result = await run
        if turn.attempt == 1:
            reached.set()
            await asyncio.Event().wait()
        return result, len(await turn.list())

    with Runtime(source, drain=0.0) as runtime:
        runtime.spawn(chief, "/t/chief", input=1, run_id="all")
        assert reached.wait(60)
    assert put(target, export(source), read_key(str(source))).waiting == (1 if awaited else 2)
    with Runtime(target) as runtime:
        assert runtime.run("all").result(60) == ("fact", 2)
        assert [info.path for info in runtime.list()] == ["/t/chief", "/t/chief/kid"]
    assert begun == ["/t/chief/kid"] * (1 if awaited else 2)


def change(store: Path, statement: str) -> None:
    connection = sqlite3.connect(store, isolation_level=None)
    connection.execute(statement)
    connection.close()


def test_an_agent_whose_state_was_lost_is_not_begun_anew_there(tmp_path: Path) -> None:
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    with Runtime(source) as runtime:
        run = runtime.spawn(plain, "/t/a", input=1).run
        assert run is not None
        run.result(60)
    change(source, "DELETE FROM snapshots")
    put(target, export(source), read_key(str(source)))
    with Runtime(target) as runtime, pytest.raises(RunFailed, match="missing"):
        runtime.agent("/t/a").followup(2).result(60)


def test_a_part_of_a_store_is_those_at_or_below_a_path(source: Path, tmp_path: Path) -> None:
    lines = contents(export(source, under="/team/keeper"))
    assert {line["path"] for line in lines if line["type"] == "agent"} == {
        "/team/keeper",
        "/team/keeper/child",
    }
    assert sum(line["type"] == "message" for line in lines) == 2
    assert contents(export(source, under="/team/keepe"))[-1]["agents"] == 0
    out = io.BytesIO()
    change(
        copied(source, tmp_path),
        "UPDATE runs SET status = 'accepted', result = NULL, ended_at = NULL WHERE awaits IS NOT NULL",
    )
    done = transfer.export(str(tmp_path / source.name), out, under="/zoo")
    assert done.outside == 0
    child = "SELECT agent_id FROM agents WHERE path = '/team/keeper/child'"
    change(tmp_path / source.name, f"DELETE FROM runs WHERE agent_id IN ({child})")
    assert transfer.export(str(tmp_path / source.name), out, under="/team").outside == 1


def copied(source: Path, folder: Path) -> Path:
    for name, data in files(source.parent).items():
        (folder / name).write_bytes(data)
    return folder / source.name


def test_new_runs_get_ids_that_none_of_those_that_came_has(tmp_path: Path) -> None:
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    with Runtime(source) as runtime:
        runtime.spawn(plain, "/t/a")
    for _ in range(3):  # ids begin with how often the store was opened
        with Runtime(source) as runtime:
            runtime.agent("/t/a").followup(1).result(60)
    put(target, export(source), read_key(str(source)))
    known = {row[0] for row in rows(target, "SELECT run_id FROM runs")}
    for _ in range(4):
        with Runtime(target) as runtime:
            run = runtime.agent("/t/a").followup(2)
            assert run.run_id not in known
            assert run.result(60) == 2
            known.add(run.run_id)
    assert problems(target) == []


def test_a_document_with_a_key_of_its_own(source: Path, tmp_path: Path) -> None:
    key = os.urandom(32)
    data = export(source, key=key)
    assert header_of(io.BytesIO(data), "it").key == transfer.fingerprint(key)
    with pytest.raises(transfer.DocumentRefused):
        put(tmp_path / "a.db", data, read_key(str(source)))
    assert put(tmp_path / "a.db", data, key).agents == 5


def test_two_stores_become_one_if_nothing_of_them_has_the_same_name(tmp_path: Path) -> None:
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    for store, name in ((one, "a"), (two, "b")):
        with Runtime(store) as runtime:
            run = runtime.spawn(plain, f"/{name}/x", input=name, run_id=f"{name}-run").run
            assert run is not None
            run.result(60)
    put(two, export(one), read_key(str(one)))
    assert problems(two) == []
    with Runtime(two) as runtime:
        assert [info.path for info in runtime.list()] == ["/a/x", "/b/x"]
        assert [runtime.run(f"{name}-run").result() for name in "ab"] == ["a", "b"]
        assert [runtime.agent(f"/{name}/x").followup(1).result(60) for name in "ab"] == [1, 1]


# Stores that made the same ids


def aged(data: bytes, key: bytes) -> bytes:
    """The document as of a store whose own ids say nothing of it: run-1-1, run-1-2 …"""
    lines = list(lines_of(io.BytesIO(data), key, "it"))
    own = [line.run_id for line in lines if isinstance(line, RunRecord) and line.run_id.startswith("run-")]
    names = {run_id: RunId(f"run-1-{number}") for number, run_id in enumerate(own, 1)}
    sealing = Sealing(key)
    out = b""
    for line in lines:
        if isinstance(line, RunRecord):
            awaits = tuple(names.get(run_id, run_id) for run_id in line.awaits)
            line = replace(line, run_id=names.get(line.run_id, line.run_id), awaits=awaits)
        out += sealing.seal(line)
    return out


@agent(name="transfer-fan")
async def fan(turn: Turn) -> Any:
    if turn.results:
        return [outcome.result for outcome in turn.results]
    children = [await turn.spawn(plain, f"child-{n}") for n in range(2)]
    await turn.after(*[await child.followup([turn.input, n]) for n, child in enumerate(children)])
    return "begun"


def with_runs(store: Path, tree: str) -> bytes:
    """A store whose runs have ids of greenroom's own; one is a continuation that has not begun."""
    with Runtime(store) as runtime:
        runtime.spawn(fan, f"/{tree}/fan", input=tree).run.result(60)
        fans = runtime.events(f"/{tree}/fan", since=0)
        ended = (event for event in fans if event.path == f"/{tree}/fan" and event.type == "run.completed")
        assert [next(ended).path for _ in range(2)]
        fans.close()
        runtime.spawn(plain, f"/{tree}/named", input=tree, run_id=f"{tree}-chosen").run.result(60)
    change(
        store, "UPDATE runs SET status = 'accepted', attempt = 0, started_at = NULL, ended_at = NULL,"
        " result = NULL WHERE awaits IS NOT NULL"
    )  # fmt: skip
    change(store, "UPDATE agents SET last_run_id = NULL WHERE path LIKE '%/fan'")
    return aged(export(store), read_key(str(store)))


def family(runtime: Runtime, tree: str) -> list[Any]:
    accepted = runtime.events(f"/{tree}", since=0, follow=False)
    return [runtime.run(event.run_id) for event in accepted if event.type == "run.accepted"]


def test_two_stores_become_one_though_greenroom_made_the_same_ids_in_both(tmp_path: Path) -> None:
    one, two, target = (tmp_path / f"{name}.db" for name in ("one", "two", "target"))
    done = put(target, with_runs(one, "one"), read_key(str(one)))
    assert done.renamed == 0
    before = rows(target, "SELECT run_id FROM runs ORDER BY serial")
    done = put(target, with_runs(two, "two"), read_key(str(two)))
    assert (done.runs, done.renamed) == (5, 4)
    ids = [run_id for (run_id,) in rows(target, "SELECT run_id FROM runs ORDER BY serial")]
    assert ids[: len(before)] == [run_id for (run_id,) in before]
    assert len(set(ids)) == 10
    assert problems(target) == []
    told = rows(target, "SELECT run_id, data FROM events WHERE CAST(data AS TEXT) LIKE '%\"was\"%'")
    assert {json.loads(data)["was"] for _, data in told} == {f"run-1-{n}" for n in (1, 2, 3, 4)}
    assert {run_id for run_id, _ in told} <= set(ids)
    with Runtime(target) as runtime:
        for tree in ("one", "two"):
            assert runtime.run(f"{tree}-chosen").result(60) == tree
            (going_on,) = (run for run in family(runtime, tree) if run.info().awaits)
            assert going_on.result(60) == [[tree, 0], [tree, 1]]
            last = runtime.agent(f"/{tree}/fan/child-1").info().last_outcome
            assert last is not None
            assert last.result == [tree, 1]
    assert problems(target) == []


def test_a_run_that_is_not_in_the_document_is_not_taken_for_another_stores(tmp_path: Path) -> None:
    """It is waited for by its id, which another run has here."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    with_runs(two, "two")
    put(tmp_path / "target.db", with_runs(one, "one"), read_key(str(one)))
    alone = aged(export(two), read_key(str(two)))
    lines = [
        line
        for line in lines_of(io.BytesIO(alone), read_key(str(two)), "it")
        if not isinstance(line, RunRecord) or line.awaits
    ]
    sealing = Sealing(read_key(str(two)))
    part = b"".join(sealing.seal(line) for line in lines)
    done = put(tmp_path / "target.db", part, read_key(str(two)))
    assert done.renamed == 3
    with Runtime(tmp_path / "target.db") as runtime:
        (going_on,) = (run for run in family(runtime, "two") if run.info().awaits)
        assert going_on.result(60) == [None, None]


def test_a_run_that_came_before_is_refused_whoever_chose_its_id(tmp_path: Path) -> None:
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    with Runtime(source) as runtime:
        ref = runtime.spawn(plain, "/t/a", input=1)
        ref.run.result(60)
        ref.close()
    data = export(source)
    put(target, data, read_key(str(source)))
    with pytest.raises(RunIdTaken):
        put(target, data, read_key(str(source)))
    with pytest.raises(RunIdTaken):
        put(source, data, read_key(str(source)))
    assert len(rows(target, "SELECT 1 FROM runs")) == 1


# Without a trace


def test_exporting_changes_no_byte_of_the_store(source: Path) -> None:
    before = files(source.parent)
    export(source)
    assert files(source.parent) == before


def test_a_store_in_use_is_exported_and_its_owner_works_on(tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    with Runtime(store) as runtime:
        runtime.spawn(plain, "/t/a", input=1).followup(2).result(60)
        assert contents(export(store))[-1] == {"type": "end", "agents": 1, "runs": 2, "messages": 0}
        assert runtime.agent("/t/a").followup(3).result(60) == 3
        with pytest.raises(StoreInUse):
            put(store, export(store), read_key(str(store)))


# Refused


def test_no_altered_byte_is_imported_wherever_it_is(source: Path, exported: bytes, tmp_path: Path) -> None:
    key = read_key(str(source))

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(exported) - 2), st.integers(1, 255))
    def refused(at: int, bits: int) -> None:
        altered = bytearray(exported)
        altered[at] ^= bits
        with pytest.raises(GreenroomError):
            put(tmp_path / "a.db", bytes(altered), key)
        assert not (tmp_path / "a.db").exists()

    refused()


LINES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "the last one missing": lambda lines: lines[:-1],
    "one missing": lambda lines: [*lines[:3], *lines[4:]],
    "two changed places": lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
    "one twice": lambda lines: [*lines[:3], lines[2], *lines[3:]],
    "something after the end": lambda lines: [*lines, lines[2]],
    "another document behind it": lambda lines: lines + lines,
    "the first one missing": lambda lines: lines[1:],
    "nothing": lambda _: [],
    "one cut short": lambda lines: [*lines[:3], lines[3][:-20] + b"\n", *lines[4:]],
    "an empty one": lambda lines: [*lines[:3], b"\n", *lines[3:]],
    "of a later version": lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]],
}


@pytest.mark.parametrize("what", LINES)
def test_a_document_is_taken_whole_or_not_at_all(
    source: Path, exported: bytes, tmp_path: Path, what: str
) -> None:
    altered = b"".join(LINES[what](exported.splitlines(keepends=True)))
    with pytest.raises(transfer.DocumentRefused) as caught:
        put(tmp_path / "a.db", altered, read_key(str(source)))
    assert "Nothing was imported" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_that_somebody_put_into_it_is_never_executed(
    source: Path, exported: bytes, tmp_path: Path
) -> None:
    import base64
    import pickle

    line = json.loads(exported.splitlines()[1])
    bomb = base64.b64encode(pickle.dumps(Bomb())).decode()
    altered = exported.replace(line["state"]["data"].encode(), bomb.encode())
    assert altered != exported
    with pytest.raises(transfer.DocumentRefused):
        put(tmp_path / "a.db", altered, read_key(str(source)))
    assert executed == []


def test_what_the_store_itself_cannot_vouch_for_is_not_exported(source: Path, tmp_path: Path) -> None:
    store = copied(source, tmp_path)
    change(store, "UPDATE snapshots SET data = zeroblob(100)")
    with pytest.raises(SnapshotTampered):
        export(store)
    (tmp_path / "agents.db.key").unlink()
    with pytest.raises(GreenroomError, match="no key"):
        export(store)


def test_what_is_taken_is_refused_and_nothing_is_changed(
    source: Path, exported: bytes, tmp_path: Path
) -> None:
    key = read_key(str(source))
    target = tmp_path / "a.db"
    with Runtime(target) as runtime:
        runtime.spawn(plain, "/team/gone")
    everything = (
        "SELECT * FROM agents",
        "SELECT * FROM runs",
        "SELECT * FROM events",
        "SELECT known FROM meta",
    )
    before = [rows(target, statement) for statement in everything]
    with pytest.raises(PathTaken, match="/team/gone"):
        put(target, exported, key)
    assert [rows(target, statement) for statement in everything] == before
    with Runtime(target) as runtime:
        runtime.agent("/team/gone").delete()
        run = runtime.spawn(plain, "/else/where", input=1, run_id="mine").run
        assert run is not None
        run.result(60)
    with pytest.raises(RunIdTaken, match="/else/where"):
        put(target, exported, key)
    assert problems(target) == []


def test_an_import_that_is_cut_off_leaves_the_store_as_it_was(
    source: Path, exported: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.db"
    monkeypatch.setattr(importing, "ROWS_IN_SLICE", 1)
    before = importing._Importer._message

    def cut_off(self: Any, line: Any) -> Iterator[Any]:
        raise OSError("cut off")

    monkeypatch.setattr(importing._Importer, "_message", cut_off)
    with pytest.raises(OSError, match="cut off"):
        put(target, exported, read_key(str(source)))
    assert rows(target, "SELECT count(*) FROM agents UNION ALL SELECT count(*) FROM events") == [(0,), (0,)]
    monkeypatch.setattr(importing._Importer, "_message", before)
    assert put(target, exported, read_key(str(source))).agents == 5
    assert problems(target) == []


# Hostile documents


NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"greenroom-export","x":' + NESTED + b"}\n",
        NESTED,
        b"\x00" * 100_000,
        b'{"type":"greenroom-export","version":1e999}\n',
        b'{"type":"greenroom-export","version":' + b"9" * 5_000 + b"}\n",
        b"\xff\xfe\n",
        b'"\\ud800"\n',
        b"",
    ],
    ids=range(8),
)
def test_what_is_no_document_is_refused_in_our_words(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(transfer.DocumentRefused, match="it is no export of greenroom"):
        put(tmp_path / "new.db", data, bytes(32))
    assert files(tmp_path) == {}


def test_a_genuine_line_that_is_nested_too_deeply_is_refused(tmp_path: Path, exported: bytes) -> None:
    """Who has the key made it: it is no attack then, and no traceback either."""
    key = bytes(32)
    sealing = Sealing(key)
    header = header_of(io.BytesIO(exported), "")
    data = sealing.seal(header)
    body = b'{"type":"end","agents":0,"runs":0,"messages":0,"x":' + NESTED + b"}"
    data += body[:-1] + b',"seal":"' + sealing._next(body).encode() + b'"}\n'
    with pytest.raises(transfer.DocumentRefused, match="line 2 cannot be read"):
        put(tmp_path / "new.db", data, key)
    assert files(tmp_path) == {}


class Endless(io.RawIOBase):
    """A document that begins well, and then is one line without an end."""

    def __init__(self, begin: bytes) -> None:
        self.begin, self.at, self.largest, self.given = begin, 0, 0, 0

    def tell(self) -> int:
        return self.at

    def seek(self, at: int, whence: int = 0) -> int:
        self.at = at
        return at

    def readline(self, most: int | None = -1) -> bytes:
        if self.at < len(self.begin):
            line = self.begin[self.at :].partition(b"\n")[0] + b"\n"
        else:
            assert most is not None
            line = b"x" * most
            self.largest = max(self.largest, most)
            self.given += most
        self.at += len(line)
        return line


def test_a_line_without_an_end_is_refused_without_being_held(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Path, exported: bytes
) -> None:
    monkeypatch.setattr(document, "LONGEST_DOCUMENT_LINE", 10 << 20)
    header = exported.partition(b"\n")[0] + b"\n"
    for begin in (header, b""):
        file = Endless(begin)
        with pytest.raises(transfer.DocumentRefused):
            transfer.import_agents(str(tmp_path / "new.db"), file, read_key(str(source)), "it")  # type: ignore[arg-type]
        assert file.largest <= document.PIECE
        assert file.given <= 12 << 20
    assert files(tmp_path) == {}


def test_a_long_line_is_imported_however_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Path, exported: bytes
) -> None:
    for piece in (1, 7, 64, 100):
        monkeypatch.setattr(document, "PIECE", piece)
        done = put(tmp_path / f"{piece}.db", exported, read_key(str(source)))
        assert done.agents == 5
    monkeypatch.setattr(document, "PIECE", 50)
    for place in (60, len(exported) // 2, len(exported) - 30):
        altered = exported[:place] + bytes([exported[place] ^ 1]) + exported[place + 1 :]
        with pytest.raises(transfer.DocumentRefused):
            put(tmp_path / "new.db", altered, read_key(str(source)))
