"""`acp_agent`, with real programs that speak the protocol."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("acp", reason="the protocol's SDK is not installed: pip install 'greenroom[acp]'")

from greenroom import KindTaken, RunFailed, RunInterrupted, Runtime
from greenroom.drivers import Limits, PermissionAsked, acp_agent, answer
from greenroom.drivers.acp import AcpAgent
from greenroom.drivers.permissions import PermissionNotAsked, open_questions

from .conftest import DEADLINE, alive

STUB = str(Path(__file__).parent / "programs/acp_stub.py")
COMMAND = [sys.executable, "-I", "-S", STUB]
NAMES = (f"stub-{n}" for n in count())


@pytest.fixture
def stub(tmp_path: Path) -> Callable[..., Any]:
    """Makes kinds of the stub, working in a folder of their own."""
    folder = tmp_path / "work"
    folder.mkdir()

    def make(**options: Any) -> Any:
        env = options.pop("env", {})
        return acp_agent(COMMAND, name=next(NAMES), cwd=folder, env=env, **options)

    return make


def ask(ref: Any, text: str) -> Any:
    return ref.followup(text).result(DEADLINE)


def pids(folder: Path) -> list[int]:
    """Of the stubs that have started in a folder, alive."""
    return [pid for pid in (int(p.name[8:]) for p in folder.glob("started-*")) if alive(pid)]


def test_a_run_is_a_prompt_turn_and_its_result_the_last_message(
    runtime: Any, stub: Any, progress: Any
) -> None:
    agents = runtime()
    ref = agents.spawn(stub(), "/t/a")
    assert ask(ref, "work") == {"message": "then I speak", "stop_reason": "end_turn"}
    assert [name for name, _ in progress(agents, "/t/a")] == [
        "agent_message_chunk",
        "agent_message_chunk",
        "tool_call",
        "agent_thought_chunk",
        "tool_call_update",
        "agent_message_chunk",
        "agent_message_chunk",
    ]
    assert progress(agents, "/t/a")[2][1]["kind"] == "read"


def test_the_stop_reason_is_the_agents(runtime: Any, stub: Any) -> None:
    ref = runtime().spawn(stub(), "/t/a")
    assert ask(ref, "refuse") == {"message": "", "stop_reason": "refusal"}


def test_messages_of_the_inbox_come_before_the_input(runtime: Any, stub: Any) -> None:
    ref = runtime().spawn(stub(), "/t/a")
    ref.send({"n": 1})
    said = ask(ref, "hello")["message"]
    assert said == 'you said Message from outside: {"n":1}\n\nhello'
    assert ref.info().inbox == 0


def test_lines_that_are_no_protocol_are_passed_over(runtime: Any, stub: Any) -> None:
    ref = runtime().spawn(stub(), "/t/a")
    assert ask(ref, "garbage")["message"] == "none the worse"


def test_a_message_that_somebody_waits_for_and_nobody_can_read_fails_the_run(
    runtime: Any, stub: Any
) -> None:
    """One that nobody waits for is passed over."""
    ref = runtime().spawn(stub(), "/t/a")
    with pytest.raises(RunFailed, match=r"broke the protocol during its turn: .* cannot be read"):
        ask(ref, "nan")
    assert ask(ref, "work")["stop_reason"] == "end_turn"


def test_a_message_too_large_for_an_event_is_the_result_all_the_same(
    runtime: Any, stub: Any, progress: Any
) -> None:
    agents = runtime()
    ref = agents.spawn(stub(), "/t/a")
    assert len(ask(ref, "long 2000000")["message"]) == 2_000_000
    ((_, data),) = progress(agents, "/t/a")
    assert len(data["cut"]) == 1024


def test_the_environment_is_what_the_kind_says(
    runtime: Any, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIMES_OWN", "not yours")
    kind = stub(env=lambda info: {"GIVEN": info.config["word"], "HOME": None})
    ref = runtime().spawn(kind, "/t/a", config={"word": "yes"})
    env = json.loads(ask(ref, "env")["message"])
    assert env["GIVEN"] == "yes"
    assert "PATH" in env
    assert not {"RUNTIMES_OWN", "HOME"} & set(env)


def test_a_program_that_dies_fails_its_run_alone(runtime: Any, stub: Any) -> None:
    ref = runtime().spawn(stub(), "/t/a")
    with pytest.raises(RunFailed, match=r"ended during its turn with code 3; .*about to die of cause"):
        ask(ref, "die cause")
    with pytest.raises(RunFailed, match=r"by signal 6 \(SIGABRT\)"):
        ask(ref, "die signal")
    assert ask(ref, "hello")["message"] == "you said hello"


def test_what_no_client_knows_is_passed_over_and_tells_no_secret(
    runtime: Any, stub: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ref = runtime().spawn(stub(env={"STUB_KEY": "hunter2hunter2"}), "/t/a")
    assert ask(ref, "odd")["message"] == "none the worse"
    assert "hunter2" not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_an_answer_that_is_none_fails_its_run_alone(runtime: Any, stub: Any) -> None:
    ref = runtime().spawn(stub(), "/t/a")
    with pytest.raises(RunFailed, match="answered with error -32603 during its turn: out of sorts"):
        ask(ref, "wrong")
    assert ask(ref, "hello")["message"] == "you said hello"


def test_one_that_closes_its_output_is_started_again(runtime: Any, stub: Any, tmp_path: Path) -> None:
    ref = runtime().spawn(stub(), "/t/a")
    with pytest.raises(RunFailed, match="closed its input or output during its turn"):
        ask(ref, "close")
    assert pids(tmp_path / "work") == []
    assert ask(ref, "hello")["message"] == "you said hello"


def test_one_that_asks_and_never_listens_fills_no_memory(
    runtime: Any, stub: Any, tmp_path: Path, until: Any
) -> None:
    large = tmp_path / "work/large"
    agents = runtime()
    ref = agents.spawn(stub(), "/t/a")
    ask(ref, "hello")
    large.write_bytes(b"x" * (4 << 20))
    before = resident()
    run = ref.followup(f"flood {large}")
    until(lambda: (tmp_path / "work/flooded").exists(), "many questions")
    for _ in range(50):
        agents.stats()
        assert resident() - before < 200 << 20  # 4,000 answers are 16 GB
        threading.Event().wait(0.02)
    run.interrupt()
    with pytest.raises(RunInterrupted):
        run.result(DEADLINE)


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Interrupting


def test_one_that_is_interrupted_while_it_makes_a_session_is_ended(
    runtime: Any, stub: Any, tmp_path: Path, until: Any
) -> None:
    ref = runtime().spawn(stub(env={"STUB_OPEN": "stuck"}), "/t/a")
    run = ref.followup("hello")
    until(lambda: (tmp_path / "work/stuck").exists())
    run.interrupt()
    with pytest.raises(RunInterrupted):
        run.result(DEADLINE)
    (tmp_path / "work/unstuck").touch()
    assert ask(ref, "hello")["message"] == "you said hello"


def test_an_interrupt_cancels_the_turn_and_keeps_the_program(
    runtime: Any, stub: Any, happened: Any, tmp_path: Path
) -> None:
    agents = runtime()
    ref = agents.spawn(stub(), "/t/a")
    run = ref.followup("hang")
    happened(agents, "agent_message_chunk", "/t/a")
    (pid,) = pids(tmp_path / "work")
    run.interrupt()
    with pytest.raises(RunInterrupted):
        run.result(DEADLINE)
    assert ask(ref, "hello")["message"] == "you said hello"
    assert pids(tmp_path / "work") == [pid]


@pytest.mark.slow  # 2 s until its program is ended, 2 s more until it is killed
@pytest.mark.parametrize("opens", ["", "deaf"])
def test_one_that_does_not_listen_is_ended_within_the_bounds(
    runtime: Any, stub: Any, happened: Any, tmp_path: Path, opens: str
) -> None:
    agents = runtime()
    ref = agents.spawn(stub(env={"STUB_OPEN": opens}), "/t/a")
    run = ref.followup("deaf")
    happened(agents, "agent_message_chunk", "/t/a")
    (pid,) = pids(tmp_path / "work")
    run.interrupt()
    with pytest.raises(RunInterrupted):
        run.result(DEADLINE)
    assert not alive(pid)
    assert ask(ref, "hello")["message"] == "you said hello"


# Permissions


@pytest.mark.parametrize(
    ("policy", "kind", "chosen"),
    [
        ("deny", "edit", "no"),
        ("allow", "edit", "yes"),
        ({"edit"}, "edit", "yes"),
        ({"read"}, "edit", "no"),
        (lambda asked: asked.kind == "edit", "edit", "yes"),
        (lambda asked: "ever", "edit", "ever"),
    ],
)
def test_the_policy_answers(runtime: Any, stub: Any, policy: Any, kind: str, chosen: str) -> None:
    ref = runtime().spawn(stub(permissions=policy), "/t/a")
    said = json.loads(ask(ref, f"permit {kind}")["message"])
    assert said == {"outcome": "selected", "optionId": chosen}


def test_a_policy_may_take_its_time(runtime: Any, stub: Any) -> None:
    seen: list[PermissionAsked] = []

    async def policy(asked: PermissionAsked) -> bool:
        seen.append(asked)
        return False

    ref = runtime().spawn(stub(permissions=policy), "/t/a")
    assert "no" in ask(ref, "permit")["message"]
    assert (seen[0].path, seen[0].title, seen[0].kind) == ("/t/a", "Edit it", "edit")


def test_a_policy_that_fails_allows_nothing(runtime: Any, stub: Any) -> None:
    def policy(asked: PermissionAsked) -> bool:
        raise LookupError("of its own")

    ref = runtime().spawn(stub(permissions=policy), "/t/a")
    assert json.loads(ask(ref, "permit")["message"])["optionId"] == "no"


def test_a_question_is_an_event_and_is_answered_from_outside(
    runtime: Any, stub: Any, happened: Any
) -> None:
    agents = runtime(slots=1)
    kind = stub(permissions="ask")
    run = agents.spawn(kind, "/t/a", input="permit").run
    asked = happened(agents, "permission", "/t/a").data["data"]
    assert (asked["title"], asked["kind"]) == ("Edit it", "edit")
    assert [option["id"] for option in asked["options"]] == ["yes", "ever", "no"]
    # it holds no slot meanwhile
    assert agents.spawn(kind, "/t/b", input="hello").run.result(DEADLINE)["message"] == "you said hello"
    assert [one.id for one in open_questions("/t/a")] == [asked["id"]]
    with pytest.raises(ValueError, match="none of the options"):
        answer(asked["id"], "perhaps")
    answer(asked["id"], "ever")
    assert json.loads(run.result(DEADLINE)["message"]) == {"outcome": "selected", "optionId": "ever"}
    with pytest.raises(PermissionNotAsked):
        answer(asked["id"], True)


def test_an_interrupt_calls_the_question_off(runtime: Any, stub: Any, happened: Any) -> None:
    agents = runtime()
    ref = agents.spawn(stub(permissions="ask"), "/t/a")
    run = ref.followup("permit")
    asked = happened(agents, "permission", "/t/a").data["data"]
    run.interrupt()
    with pytest.raises(RunInterrupted):
        run.result(DEADLINE)
    with pytest.raises(PermissionNotAsked):
        answer(asked["id"], True)
    assert ask(ref, "hello")["message"] == "you said hello"


def test_a_question_about_a_large_change_can_be_answered(runtime: Any, stub: Any, happened: Any) -> None:
    agents = runtime()
    run = agents.spawn(stub(permissions="ask"), "/t/a", input="permit-large").run
    asked = happened(agents, "permission", "/t/a").data["data"]
    assert len(asked["options"]) == 3
    assert "tool_call" not in asked
    answer(asked["id"], True)
    assert json.loads(run.result(DEADLINE)["message"])["optionId"] == "yes"


# Files


def test_files_are_read_and_written_inside_the_folder_alone(
    runtime: Any, stub: Any, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (tmp_path / "secret").write_text("out of reach")
    (work / "link").symlink_to(tmp_path / "secret")
    (work / "up").symlink_to(tmp_path)
    (tmp_path / "linked").write_text("out of reach")
    os.link(tmp_path / "linked", work / "hard")
    (work / "inside").write_text("within reach")
    ref = runtime().spawn(stub(permissions="allow"), "/t/a")
    assert json.loads(ask(ref, f"read {work}/inside")["message"]) == {"content": "within reach"}
    for path in ("link", "up/secret", "../secret", "hard", f"../{work.name}x"):
        said = ask(ref, f"read {work}/{path}")["message"]
        assert "out of reach" not in said
        assert "error" in said or "-32602" in said
        said = ask(ref, f"write {work}/{path} changed")["message"]
        assert "-32602" in said
    assert ask(ref, f"read {tmp_path}/secret")["message"].count("-32602") == 1
    assert json.loads(ask(ref, f"write {work}/new a text")["message"]) == {}
    assert (work / "new").read_text() == "a text"
    assert (tmp_path / "secret").read_text() == "out of reach"


def test_an_agent_that_may_nothing_has_nothing_written(runtime: Any, stub: Any, tmp_path: Path) -> None:
    ref = runtime().spawn(stub(), "/t/a")
    assert "may not write" in ask(ref, f"write {tmp_path}/work/new text")["message"]
    assert not (tmp_path / "work/new").exists()


# Sessions


def test_a_session_is_loaded_again_after_eviction_and_restart(
    runtime: Any, stub: Any, progress: Any
) -> None:
    kind = stub(env={"STUB_LOADS": "1"})
    agents = runtime()
    ref = agents.spawn(kind, "/t/a")
    ask(ref, "one")
    assert ref.evict()
    ask(ref, "two")
    agents.close()
    agents = runtime()
    ref = agents.agent("/t/a")
    assert json.loads(ask(ref, "remember")["message"]) == ["one", "two", "remember"]
    told = progress(agents, "/t/a")
    assert [data["is"] for name, data in told if name == "session"] == ["loaded", "loaded"]
    assert "user_message_chunk" not in [name for name, _ in told]


def test_one_that_cannot_be_loaded_says_so(runtime: Any, stub: Any, progress: Any) -> None:
    agents = runtime()
    ref = agents.spawn(stub(), "/t/a")
    ask(ref, "one")
    assert ref.evict()
    assert json.loads(ask(ref, "remember")["message"]) == ["remember"]
    ((_, data),) = [told for told in progress(agents, "/t/a") if told[0] == "session"]
    assert (data["is"], data["why"]) == ("lost", "this agent cannot load sessions")


def test_a_session_that_the_agent_has_lost_is_told(
    runtime: Any, stub: Any, progress: Any, tmp_path: Path
) -> None:
    agents = runtime()
    ref = agents.spawn(stub(env={"STUB_LOADS": "1"}), "/t/a")
    ask(ref, "one")
    assert ref.evict()
    for file in (tmp_path / "work").glob("session-*"):
        file.unlink()
    ask(ref, "two")
    ((_, data),) = [told for told in progress(agents, "/t/a") if told[0] == "session"]
    assert "no such session" in data["why"]


# Handshakes


def test_an_agent_that_wants_a_login_says_so(runtime: Any, stub: Any) -> None:
    run = runtime().spawn(stub(env={"STUB_OPEN": "login"}), "/t/a", input="hello").run
    with pytest.raises(RunFailed, match=r"asks for a login \(Authentication required; A key\)\. Log in"):
        run.result(DEADLINE)


def test_another_version_of_the_protocol_is_refused(runtime: Any, stub: Any) -> None:
    run = runtime().spawn(stub(env={"STUB_OPEN": "version"}), "/t/a", input="hello").run
    with pytest.raises(RunFailed, match="speaks version 99 of the protocol, and 1 is needed"):
        run.result(DEADLINE)


def test_a_program_that_is_not_there_is_named(runtime: Any, tmp_path: Path) -> None:
    kind = acp_agent(["greenroom-no-such-program"], name=next(NAMES))
    ref = runtime().spawn(kind, "/t/a")
    with pytest.raises(RunFailed, match=r"greenroom-no-such-program.* was not started: .*No such file"):
        ref.followup("x").result(DEADLINE)
    assert ref.info().status == "failed"


# Places


def test_an_agent_with_nothing_to_do_gives_its_place_up(runtime: Any, stub: Any, tmp_path: Path) -> None:
    kind = stub(limits=Limits(processes=2), env={"STUB_LOADS": "1"})
    agents = runtime(slots=8)
    refs = [agents.spawn(kind, f"/t/a{n}") for n in range(6)]
    most = 0
    for turn in range(2):
        runs = [ref.followup(f"turn {turn}") for ref in refs]
        while not all(run.done() for run in runs):
            most = max(most, len(pids(tmp_path / "work")))
        assert [run.result(DEADLINE)["message"] for run in runs] == [f"you said turn {turn}"] * 6
    assert 1 <= most <= 2
    assert sum(ref.info().resident for ref in refs) == 6


def test_who_waits_for_a_place_holds_nobody_up(runtime: Any, stub: Any, happened: Any) -> None:
    agents = runtime(slots=1)
    kind, other = stub(limits=Limits(processes=1)), stub()
    busy = agents.spawn(kind, "/t/busy")
    hanging = busy.followup("hang")
    happened(agents, "agent_message_chunk", "/t/busy")
    waiting = agents.spawn(kind, "/t/waiting", input="hello").run
    passing = agents.spawn(other, "/t/passing", input="hello").run
    hanging.interrupt()
    assert passing.result(DEADLINE)["message"] == "you said hello"
    assert waiting.result(DEADLINE)["message"] == "you said hello"


def test_an_interrupt_reaches_one_that_waits_for_a_place(runtime: Any, stub: Any, happened: Any) -> None:
    agents = runtime()
    kind = stub(limits=Limits(processes=1))
    hanging = agents.spawn(kind, "/t/busy", input="hang").run
    happened(agents, "agent_message_chunk", "/t/busy")
    waiting = agents.spawn(kind, "/t/waiting", input="hello").run
    happened(agents, "waiting", "/t/waiting")
    waiting.interrupt()
    with pytest.raises(RunInterrupted):
        waiting.result(DEADLINE)
    hanging.interrupt()
    assert agents.agent("/t/waiting").followup("hello").result(DEADLINE)["message"] == "you said hello"


def test_a_program_that_died_while_idle_is_started_again(
    runtime: Any, stub: Any, tmp_path: Path, until: Any
) -> None:
    ref = runtime().spawn(stub(), "/t/a")
    ask(ref, "one")
    (pid,) = pids(tmp_path / "work")
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))
    assert ask(ref, "two")["message"] == "you said two"


def test_an_evicted_agent_holds_no_process(runtime: Any, stub: Any, tmp_path: Path) -> None:
    ref = runtime().spawn(stub(), "/t/a")
    ask(ref, "one")
    (pid,) = pids(tmp_path / "work")
    assert ref.evict()
    assert not alive(pid)


def test_a_driver_that_fails_leaves_no_process(
    runtime: Any, stub: Any, tmp_path: Path, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: Any) -> None:
        raise RuntimeError("a bug")

    agents = runtime()
    ref = agents.spawn(stub(), "/t/a")
    said = json.loads(ask(ref, "child")["message"])
    assert all(map(alive, said))
    monkeypatch.setattr(AcpAgent, "close", fails)
    assert ref.evict()
    until(lambda: not any(map(alive, said)))


# Definitions


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"command": "a string"}, TypeError, "a command is a list"),
        ({"command": []}, TypeError, "program first"),
        ({"command": ["a", 1]}, TypeError, "list of str"),
        ({"permissions": "perhaps"}, ValueError, "permissions="),
        ({"permissions": [1]}, TypeError, "permissions="),
        ({"env": {"A": 1}}, TypeError, "gives A a int"),
        ({"env": {"A=B": "x"}}, ValueError, "no name of a variable"),
        ({"cwd": 3}, TypeError, "cwd="),
        ({"limits": 3}, TypeError, "limits="),
        ({"prompt": "x"}, TypeError, "prompt="),
        ({"open_timeout": 0}, ValueError, "open_timeout"),
    ],
)
def test_bad_definitions_are_refused(options: dict[str, Any], error: Any, match: str) -> None:
    command = options.pop("command", COMMAND)
    with pytest.raises(error, match=match):
        acp_agent(command, name=next(NAMES), **options)


def test_two_kinds_of_one_name_have_to_be_alike() -> None:
    name = next(NAMES)
    acp_agent(COMMAND, name=name)
    acp_agent(COMMAND, name=name)
    with pytest.raises(KindTaken):
        acp_agent([*COMMAND, "--other"], name=name)


def test_a_program_is_started_without_threads(runtime: Any, stub: Any) -> None:
    agents: Runtime = runtime()
    before = threading.active_count()
    ref = agents.spawn(stub(), "/t/a")
    ask(ref, "hello")
    assert threading.active_count() == before
