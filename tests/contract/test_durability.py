"""What survives what: restarts, `kill -9`, `durability=` of runtimes and calls, owners, altered bytes."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    GreenroomError,
    Runtime,
    SnapshotTampered,
    SnapshotUnreadable,
    StoreCorrupt,
    StoreError,
    StoreInUse,
    StoreTooNew,
    Turn,
    agent,
)
from greenroom.persistence import doctor

KINDS = """
import asyncio, os, sys
from greenroom import Runtime, agent

@agent(name="c-dur-counter")
async def counter(turn):
    turn.state["count"] = turn.state.get("count", 0) + 1
    turn.state.setdefault("read", []).extend(message.body for message in turn.inbox)
    return turn.state["count"]

@agent(name="c-dur-hangs", attempts=2)
async def hangs(turn):
    turn.state["attempts"] = turn.attempt
    print("hanging", turn.attempt, flush=True)
    if not os.path.exists(turn.input):
        await asyncio.Event().wait()
    return turn.attempt

store = sys.argv[1]
"""

namespace: dict[str, Any] = {}
exec(KINDS.replace("store = sys.argv[1]", ""), namespace)
counter, hangs = namespace["counter"], namespace["hangs"]


class Child:
    """Another Python with the same kinds, on the same store."""

    def __init__(self, store: Path, code: str) -> None:
        source = KINDS + textwrap.dedent(code)
        self.process = subprocess.Popen(
            [sys.executable, "-c", source, str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self, word: str) -> str:
        """Wait for a line that begins with `word`."""
        for line in self.process.stdout:
            if line.startswith(word):
                return line.strip()
        raise AssertionError(f"it ended without saying {word}")

    def record(self) -> None:
        """Have it do what is answered only when all it did before is on disk."""
        self.process.stdin.write("record\n")
        self.process.stdin.flush()
        self.says("recorded")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(600)
        self.process.stdout.close()
        self.process.stdin.close()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[[str], Child]]:
    made: list[Child] = []

    def make(code: str, store: Path | None = None) -> Child:
        made.append(Child(store or tmp_path / "agents.db", code))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.kill()


@pytest.mark.parametrize("level", ["process", "power"])
@pytest.mark.parametrize("where", ["runtime", "call"])
def test_what_was_answered_survives_a_killed_process(
    runtime: Any, child: Any, level: str, where: str
) -> None:
    of_runtime, of_call = (level, None) if where == "runtime" else ("memory", level)
    other = child(f"""
        runtime = Runtime(store, durability={of_runtime!r}, slots=1, residents=4).start()
        level = {of_call!r}
        stuck = runtime.spawn(hangs, "/kill/stuck", input="/no/such/file", durability=level)
        ref = runtime.spawn(counter, "/kill/a", config={{"k": 1}}, durability=level)
        for n in range(20):
            ref.followup(n, run_id=f"kill-{{n}}", durability=level)
            ref.send(n, durability=level)
        print("answered", flush=True)
        while True:
            ref.followup("more", durability="memory")
    """)
    other.says("answered")
    other.kill()
    open_ = runtime()
    runs = [open_.run(f"kill-{n}") for n in range(20)]
    assert sorted(run.result(timeout=60) for run in runs) == list(range(1, 21))
    ref = open_.agent("/kill/a")
    assert ref.info().config == {"k": 1}
    ref.followup("read").result(timeout=60)
    assert ref.state()["read"] == list(range(20)), "each message once"
    assert open_.agent("/kill/stuck").info().kind == "c-dur-hangs"


def test_a_store_is_whole_after_a_kill_at_any_instant(runtime: Any, child: Any) -> None:
    for _ in range(3):
        other = child("""
            runtime = Runtime(store, durability="memory", slots=2, residents=2).start()
            refs = []
            for info in runtime.list():
                refs.append(runtime.agent(info.path))
            for n in range(len(refs), len(refs) + 4):
                refs.append(runtime.spawn(counter, f"/torn/{n}"))
            print("working", flush=True)
            while True:
                for ref in refs:
                    ref.followup(1)
                refs[0].followup(1).result()
        """)
        other.says("working")
        other.kill()
    open_ = runtime(residents=4)
    for info in open_.list():
        ref = open_.agent(info.path)
        last = ref.followup(1).result(timeout=60)
        completed = [e for e in open_.events(info.path, follow=False) if e.type == "run.completed"]
        assert last == len(completed) == ref.state()["count"], "every completed run counted once"
    assert open_.stats().running == 0


def test_memory_is_fast_and_survives_an_orderly_end(runtime: Any) -> None:
    first = runtime(durability="memory")
    ref = first.spawn(counter, "/memory/a")
    runs = [ref.followup(n) for n in range(50)]
    first.wait(runs, timeout=60)
    first.close()
    second = runtime()
    assert second.agent("/memory/a").state()["count"] == 50
    assert second.run(runs[7].run_id).result(timeout=60) == 8


@pytest.mark.parametrize("level", [None, "memory", "process", "power"])
def test_each_call_may_have_a_durability_of_its_own(runtime: Any, level: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(counter, "/level/a", input=1, durability=level)
    ref.send("x", durability=level)
    run = ref.followup(2, durability=level)
    assert run.result(timeout=60) == 2
    assert open_.run(run.run_id).result(timeout=60) == 2


def test_a_turn_cut_off_by_a_crash_begins_again_within_its_attempts(
    runtime: Any, child: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    code = f"""
        runtime = Runtime(store).start()
        if not runtime.list():
            runtime.spawn(hangs, "/again/a", input={str(go)!r}, run_id="again-1")
            runtime.spawn(hangs, "/again/b", input={str(tmp_path / "never")!r}, run_id="again-2")
            runtime.spawn(counter, "/again/c")
        for line in sys.stdin:
            runtime.agent("/again/c").send("answered when all before it is on disk")
            print("recorded", flush=True)
    """
    first = child(code)
    first.says("hanging 1")
    first.says("hanging 1")
    first.record()
    first.kill()
    go.touch()
    second = child(code)
    second.says("hanging 2")
    second.says("hanging 2")
    second.record()
    second.kill()
    for number in (3, 4):  # two crashes are held against nobody, the next two against the one at work
        third = child(code)
        third.says(f"hanging {number}")
        third.record()
        third.kill()
    open_ = runtime()
    assert open_.run("again-1").outcome(timeout=60).attempt == 2
    assert open_.agent("/again/a").state() in ({"attempts": 2},)
    outcome = open_.run("again-2").outcome(timeout=60)
    assert (outcome.status, outcome.attempt, outcome.error_type) == ("failed", 4, "Crashed")
    assert outcome.error
    assert open_.run("again-2").info().crashes == 2
    assert open_.agent("/again/b").state() == {}
    assert open_.agent("/again/b").info().status == "idle"
    assert open_.stats().running == 0


def test_a_run_that_kills_its_process_is_given_up(runtime: Any, child: Any, tmp_path: Path) -> None:
    """However soon it does: the count of its attempts must not be lost with the process."""
    armed = tmp_path / "armed"
    code = f"""
        @agent(name="c-dur-kills", attempts=2)
        async def kills(turn):
            if not os.path.exists({str(armed)!r}):
                await asyncio.Event().wait()
            print("killing", flush=True)
            os.kill(os.getpid(), 9)

        runtime = Runtime(store).start()
        if not runtime.list():
            runtime.spawn(kills, "/kills/a").followup(1, run_id="kills-run")
            print("accepted", flush=True)
        print("outcome", runtime.run("kills-run").outcome(timeout=600).status, flush=True)
        runtime.close()
    """
    first = child(code)
    first.says("accepted")
    first.kill()
    armed.touch()
    said = []
    for _ in range(5):
        other = child(code)
        said += [line.strip() for line in other.process.stdout]
        other.process.wait(600)
    assert said.count("killing") <= 4, "two that make it a suspect, and its attempts"
    assert "outcome failed" in said


def test_a_turn_begun_again_finds_what_it_started(runtime: Any, child: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    kind = """
        @agent(name="c-dur-parent", attempts=5)
        async def parent(turn):
            children = [await turn.spawn(counter, f"c{n}") for n in range(3)]
            runs = [await c.followup(n) for n, c in enumerate(children)]
            same = [await children[0].followup("same"), await children[0].followup("same")]
            outcomes = await turn.wait(*runs, *same)
            await turn.send("c0", "once")
            print("started", flush=True)
            if not os.path.exists(turn.input):
                await asyncio.Event().wait()
            return ([run.run_id for run in [*runs, *same]], [o.result for o in outcomes])
    """
    other = child(f"""
{textwrap.indent(textwrap.dedent(kind), "        ")}
        runtime = Runtime(store, slots=1).start()
        runtime.spawn(parent, "/twice/p", input={str(go)!r}, run_id="twice-run")
        import time; time.sleep(60)
    """)
    other.says("started")
    other.kill()
    exec(textwrap.dedent(kind), namespace)
    go.touch()
    open_ = runtime(slots=1)
    ids, results = open_.run("twice-run").result(timeout=60)
    assert len(set(ids)) == 5
    assert results[:3] == [1, 1, 1]
    assert sorted(results[3:]) == [2, 3]
    accepted = [e.run_id for e in open_.events(follow=False) if e.type == "run.accepted"]
    assert sorted(accepted) == sorted([*ids, "twice-run"])
    assert len(open_.list()) == 4
    assert open_.agent("/twice/p/c0").info().inbox == 1
    assert open_.agent("/twice/p/c0").state()["count"] == 3


def test_a_continuation_that_waits_survives_a_crash(runtime: Any, child: Any, tmp_path: Path) -> None:
    kind = """
        @agent(name="c-dur-fan")
        async def fan(turn):
            if turn.results:
                return [outcome.result for outcome in turn.results]
            done = await (await turn.spawn(counter, "done")).followup(1)
            await done
            child = await turn.spawn(hangs, "slow")
            return (await turn.after(done, await child.followup(turn.input))).run_id
    """
    go = tmp_path / "go"
    other = child(f"""
{textwrap.indent(textwrap.dedent(kind), "        ")}
        runtime = Runtime(store).start()
        print("later", runtime.spawn(fan, "/fan", input={str(go)!r}).run.result(), flush=True)
        import time; time.sleep(60)
    """)
    other.says("hanging")
    later = other.says("later").split()[1]
    other.kill()
    exec(textwrap.dedent(kind), namespace)
    go.touch()
    open_ = runtime()
    assert open_.run(later).result(timeout=60) == [1, 2]
    started = [
        e for e in open_.events("/fan", follow=False) if e.type == "run.started" and e.path == "/fan"
    ]
    assert len(started) == 2


def test_a_second_owner_is_refused_by_name_and_a_dead_one_is_followed(
    runtime: Any, child: Any, tmp_path: Path
) -> None:
    other = child("""
        runtime = Runtime(store).start()
        runtime.spawn(counter, "/owner/a", input=1).run.result(timeout=600)
        print("owning", flush=True)
        import time; time.sleep(60)
    """)
    other.says("owning")
    with pytest.raises(StoreInUse) as refused:
        Runtime(tmp_path / "agents.db").start()
    assert str(other.process.pid) in str(refused.value)
    assert os.uname().nodename in str(refused.value)
    other.kill()
    open_ = runtime()
    assert open_.agent("/owner/a").followup(2).result(timeout=60) == 2
    with pytest.raises(StoreInUse) as refused:
        Runtime(tmp_path / "agents.db").start()
    assert str(os.getpid()) in str(refused.value)
    assert open_.agent("/owner/a").followup(3).result(timeout=60) == 3


def test_a_store_is_where_it_was_said_to_be_before_the_program_went_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    runtime = Runtime("agents.db")
    monkeypatch.chdir("elsewhere")
    with runtime:
        runtime.spawn("c-dur-counter", "/team/a")
        monkeypatch.chdir("/")
        runtime.spawn("c-dur-counter", "/team/b")
    with Runtime(tmp_path / "agents.db") as again:
        assert [info.path for info in again.list()] == ["/team/a", "/team/b"]
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_store_below_a_working_directory_that_is_gone_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(StoreError, match=r"agents\.db: the working directory is gone"):
        Runtime("agents.db")
    with pytest.raises(StoreError, match="no such file"):
        doctor.examine("agents.db")


def test_the_file_is_for_its_owner_alone(runtime: Any, tmp_path: Path) -> None:
    runtime().spawn(counter, "/mode/a", input=1).run.result(timeout=60)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def altered(store: Path, change: str) -> None:
    with sqlite3.connect(store) as database:
        assert database.execute(change).rowcount > 0
    database.close()


def test_an_altered_snapshot_is_refused_unread_and_kept(runtime: Any, tmp_path: Path) -> None:
    first = runtime()
    for name in "ab":
        first.spawn(counter, f"/altered/{name}", input=1).run.result(timeout=60)
    first.close()
    with sqlite3.connect(tmp_path / "agents.db") as database:
        columns = [
            row[1] for row in database.execute("pragma table_info(snapshots)") if "BLOB" in row[2].upper()
        ]
        (agent_id,) = database.execute("select agent_id from agents where path = '/altered/a'").fetchone()
        before = {}
        for column in columns:
            (value,) = database.execute(
                f"select {column} from snapshots where agent_id = ?", (agent_id,)
            ).fetchone()
            before[column] = bytes([value[0] ^ 1]) + value[1:]
            database.execute(
                f"update snapshots set {column} = ? where agent_id = ?", (before[column], agent_id)
            )
    database.close()
    second = runtime()
    ref = second.agent("/altered/a")
    outcome = ref.followup(1).outcome(timeout=60)
    assert outcome.status == "failed"
    assert "refused" in outcome.error
    with pytest.raises(SnapshotTampered) as raised:
        ref.state()
    assert raised.value.path == "/altered/a"
    assert ref.info().status == "failed"
    assert second.agent("/altered/b").followup(1).result(timeout=60) == 2
    second.close()
    with sqlite3.connect(tmp_path / "agents.db") as database:
        for column in columns:
            kept = database.execute(
                f"select {column} from snapshots where agent_id = ?", (agent_id,)
            ).fetchone()
            assert kept[0] == before[column]
    database.close()
    third = runtime()
    third.agent("/altered/a").delete()
    assert third.spawn(counter, "/altered/a", input=1).run.result(timeout=60) == 1


def test_an_altered_config_blinds_nobody(runtime: Any, tmp_path: Path) -> None:
    first = runtime()
    for name in "ab":
        first.spawn(counter, f"/config/{name}", config={"k": name}, input=1).run.result(timeout=60)
    first.close()
    with sqlite3.connect(tmp_path / "agents.db") as database:
        (old,) = database.execute("select config from agents where path = '/config/a'").fetchone()
        new = old[:-1] + bytes([old[-1] ^ 1])
        database.execute("update agents set config = ? where path = '/config/a'", (new,))
    database.close()
    second = runtime()
    assert second.agent("/config/b").followup(1).result(timeout=60) == 2
    assert [info.path for info in second.list()] == ["/config/a", "/config/b"]
    assert second.agent("/config/a").followup(1).outcome(timeout=60).status == "failed"
    second.agent("/config/a").delete()
    assert [info.path for info in second.list()] == ["/config/b"]


def test_a_store_without_its_key_reads_no_snapshot(runtime: Any, tmp_path: Path) -> None:
    first = runtime()
    first.spawn(counter, "/key/a", input=1).run.result(timeout=60)
    first.close()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "agents.db").rename(tmp_path / "elsewhere" / "agents.db")
    second = runtime(tmp_path / "elsewhere" / "agents.db")
    assert second.agent("/key/a").followup(1).outcome(timeout=60).status == "failed"
    with pytest.raises(SnapshotTampered):
        second.agent("/key/a").state()


def test_a_state_whose_class_is_gone_fails_that_agent_alone(runtime: Any, tmp_path: Path) -> None:
    (tmp_path / "c_dur_module.py").write_text("class Gone:\n    value = 7\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import c_dur_module  # type: ignore[import-not-found]

        @agent(name="c-dur-gone", state=c_dur_module.Gone)
        async def gone(turn: Turn) -> int:
            turn.state.seen = True
            return turn.state.value

        first = runtime()
        first.spawn(gone, "/gone/a", input=1).run.result(timeout=60)
        first.close()
        (tmp_path / "c_dur_module.py").unlink()
        del sys.modules["c_dur_module"]
        second = runtime()
        ref = second.agent("/gone/a")
        outcome = ref.followup(1).outcome(timeout=60)
        assert outcome.status == "failed"
        assert "c_dur_module" in outcome.error
        with pytest.raises(SnapshotUnreadable) as raised:
            ref.state()
        assert "c_dur_module" in str(raised.value)
        sys.modules["c_dur_module"] = c_dur_module
        assert ref.followup(1).result(timeout=60) == 7, "the bytes were kept"
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("c_dur_module", None)


def test_a_newer_or_a_damaged_store_is_refused_and_left_as_it_is(runtime: Any, tmp_path: Path) -> None:
    first = runtime()
    first.spawn(counter, "/newer/a", input=1).run.result(timeout=60)
    first.close()
    store = tmp_path / "agents.db"
    whole = store.read_bytes()
    with sqlite3.connect(store) as database:
        (version,) = database.execute("pragma user_version").fetchone()
        database.execute(f"pragma user_version = {version + 1000}")
    database.close()
    newer = store.read_bytes()
    with pytest.raises(StoreTooNew) as refused:
        Runtime(store).start()
    assert str(version + 1000) in str(refused.value)
    assert store.read_bytes() == newer
    damaged = b"not at all" + whole[10:]
    store.write_bytes(damaged)
    with pytest.raises(StoreCorrupt):
        Runtime(store).start()
    assert store.read_bytes() == damaged
    store.write_bytes(whole)
    assert runtime().agent("/newer/a").followup(1).result(timeout=60) == 2


def test_a_foreign_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    store = tmp_path / "recipes.db"
    with sqlite3.connect(store) as database:
        database.execute("create table recipes (name text)")
    database.close()
    before = store.read_bytes()
    with pytest.raises(GreenroomError):
        Runtime(store).start()
    assert store.read_bytes() == before


def test_closing_lets_a_turn_begin_again_and_counts_that(runtime: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    first = runtime()
    run = first.spawn(hangs, "/closing/a", input=str(go), run_id="cut-off").run
    queued = first.agent("/closing/a").followup(str(go), run_id="queued")
    while run.status != "running":
        pass
    first.close(drain=0)
    go.touch()
    second = runtime()
    assert second.run("cut-off").result(timeout=60) == 2, "it is the second time that its code begins"
    assert second.run("cut-off").info().crashes == 0
    assert second.run(queued.run_id).result(timeout=60) == 1
    assert second.agent("/closing/a").state() == {"attempts": 1}
