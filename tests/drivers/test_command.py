"""`command_agent`, with real programs: mostly the shell, which starts quickly."""

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from greenroom import KindTaken, RunFailed, RunInterrupted
from greenroom.actors.processes import orphans
from greenroom.drivers import Limits, command_agent

from .conftest import DEADLINE, alive, descendants

NAMES = (f"command-{n}" for n in count())


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Any]:
    """Makes kinds of a script of the shell."""

    def make(script: str, **options: Any) -> Any:
        options = {"name": next(NAMES), "cwd": tmp_path, **options}
        return command_agent(["/bin/sh", "-c", script], **options)

    return make


def ask(agents: Any, kind: Any, input: Any = "x", **options: Any) -> Any:
    return agents.spawn(kind, f"/t/{kind.kind_name}", input=input, **options).run.result(DEADLINE)


def failure(agents: Any, kind: Any, input: Any = "x") -> str:
    with pytest.raises(RunFailed) as raised:
        ask(agents, kind, input)
    return str(raised.value)


# What a run gives


def test_scenario_51_intermediate_lines_are_progress_and_the_last_answer_is_the_result(
    runtime: Any, shell: Any, progress: Any
) -> None:
    agents = runtime()
    kind = shell("""echo '{"step": 1}'; echo thinking; echo '{"step": 2}'; echo '{"done": true}'""")
    assert ask(agents, kind) == {"done": True}
    assert progress(agents, "/t") == [
        ("message", {"step": 1}),
        ("text", "thinking"),
        ("message", {"step": 2}),
    ]


def test_scenario_51_a_bad_exit_fails_the_run_although_it_answered(
    runtime: Any, shell: Any, progress: Any
) -> None:
    agents = runtime()
    kind = shell("""echo '{"answer": 42}'; echo the reason >&2; exit 3""")
    said = failure(agents, kind)
    assert "'/bin/sh' ended with code 3; the end of its standard error: the reason" in said
    assert progress(agents, "/t") == [("message", {"answer": 42})]  # told, and no result


def test_scenario_51_a_signal_is_named(runtime: Any, shell: Any) -> None:
    said = failure(runtime(), shell("kill -SEGV $$"))
    assert "by signal 11 (SIGSEGV); its standard error was empty" in said


def test_the_kind_may_say_which_lines_answer(runtime: Any, shell: Any, progress: Any) -> None:
    agents = runtime()
    script = """echo '{"type": "result", "text": "early"}'; echo '{"type": "result", "text": "late"}'
        echo '{"type": "usage"}'"""

    def answer(value: Any) -> Any:
        return value["text"] if value["type"] == "result" else None

    kind = shell(script, answer=answer)
    assert ask(agents, kind) == "late"
    assert [data["type"] for _, data in progress(agents, "/t")] == ["result", "result", "usage"]


def test_a_program_that_says_nothing_gives_nothing(runtime: Any, shell: Any) -> None:
    assert ask(runtime(), shell("true")) is None


def test_a_last_line_without_its_end_counts(runtime: Any, shell: Any) -> None:
    assert ask(runtime(), shell("""printf '{"a": 1}\\n{"b": 2}'""")) == {"b": 2}


def test_half_a_line_is_no_answer(runtime: Any, shell: Any, progress: Any) -> None:
    agents = runtime()
    assert ask(agents, shell("""printf '{"a": 1}\\n{"b": '""")) == {"a": 1}
    assert progress(agents, "/t") == [("message", {"a": 1}), ("text", '{"b":')]


def test_a_line_that_is_too_long_is_cut_and_dropped(runtime: Any, shell: Any, progress: Any) -> None:
    agents = runtime()
    kind = shell("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo 1", longest_line=10_000)
    assert ask(agents, kind) == 1
    assert progress(agents, "/t") == [("too long", {"beginning": "x" * 1024, "bytes": 3_000_000})]


LONG = """python3 -c "import json; print(json.dumps('x' * 9_000_000))" """
NAN = """echo '{"score": NaN, "text": "the answer"}'"""


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (LONG, r"has 9,000,002 bytes, and longest_line= allows 1,048,576"),
        (NAN, "is JSON with a value that cannot be kept"),
        (f"echo 1; {NAN}", "its line is JSON"),
        (f"echo 1; {LONG}", "its line has 9,000,002"),
        (f"{NAN}; echo done", "is JSON with a value"),
        ("echo '[1e999]'", "is JSON with a value"),
        ('printf \'{"a": "\\377"}\'', "is JSON with a value"),
    ],
)
def test_an_answer_that_cannot_be_taken_fails_the_run(
    runtime: Any, shell: Any, script: str, problem: str
) -> None:
    said = failure(runtime(), shell(script))
    assert "the answer of '/bin/sh' cannot be taken" in said
    assert problem in said


def test_an_answer_that_was_lost_does_not_count_once_another_one_came(runtime: Any, shell: Any) -> None:
    assert ask(runtime(), shell(f"{NAN}; {LONG}; echo 3")) == 3


def test_the_limit_of_an_answer_is_the_kinds(runtime: Any, shell: Any) -> None:
    assert ask(runtime(), shell(LONG, longest_line=10_000_000)) == "x" * 9_000_000


def test_standard_error_is_kept_at_its_end_alone(runtime: Any, shell: Any) -> None:
    said = failure(runtime(), shell("seq 1 200000 >&2; exit 1"))
    assert said.endswith("199999\n200000")
    assert len(said) < 5_000


def test_much_progress_comes_in_order(runtime: Any, shell: Any, progress: Any) -> None:
    agents = runtime()
    assert ask(agents, shell("seq 1 3000")) == 3000
    assert [data for _, data in progress(agents, "/t")] == list(range(1, 3000))


# What a program gets


@pytest.mark.parametrize(
    ("input", "told"), [("a text", "a text"), ({"n": [1]}, '{"n":[1]}'), (None, "null")]
)
def test_the_prompt_is_the_input(runtime: Any, shell: Any, input: Any, told: str) -> None:
    assert ask(runtime(), shell("""cat > told; echo '"ok"'"""), input) == "ok"


def test_the_prompt_is_written_whole(runtime: Any, shell: Any, tmp_path: Path) -> None:
    text = "".join(f"line {n}\n" for n in range(50_000)) + "ünd 🙂"
    assert ask(runtime(), shell("cat > told; wc -c < told"), text) == len(text.encode()) + 1
    assert (tmp_path / "told").read_text() == text + "\n"


def test_a_program_need_not_read_its_prompt(runtime: Any, shell: Any) -> None:
    assert ask(runtime(), shell("exec <&-; echo 1"), "x" * 1_000_000) == 1


def test_the_prompt_may_be_the_kinds_own(runtime: Any, shell: Any) -> None:
    kind = shell("cat", prompt=lambda turn: json.dumps([turn.path, turn.input]))
    assert ask(runtime(), kind, "x") == [f"/t/{kind.kind_name}", "x"]


def test_messages_come_with_the_prompt(runtime: Any, shell: Any, tmp_path: Path) -> None:
    agents = runtime()
    ref = agents.spawn(shell("cat > told"), "/t/a")
    ref.send("by the way")
    ref.followup("do it").result(DEADLINE)
    assert (tmp_path / "told").read_text() == "Message from outside: by the way\n\ndo it\n"


def test_the_environment_is_what_the_kind_says(
    runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_RUNTIME", "secret of the runtime")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    kind = command_agent(
        [sys.executable, "-c", code], name=next(NAMES), env={"MINE": "yes", "LANG": None}, cwd=tmp_path
    )
    env = ask(runtime(), kind)
    assert env["MINE"] == "yes"
    assert {"PATH", "HOME"} <= set(env)
    assert not {"OF_THE_RUNTIME", "LANG"} & set(env)


def test_secrets_of_a_config_are_in_no_event_and_no_error(
    runtime: Any, shell: Any, caplog: pytest.LogCaptureFixture
) -> None:
    agents = runtime()
    kind = shell(
        'echo "{\\"key\\": \\"$API\\"}"; echo "plain $API"; echo "oops $API" >&2; exit 1',
        env=lambda info: {"API": info.config["api_key"]},
    )
    with pytest.raises(RunFailed) as raised:
        ask(agents, kind, config={"api_key": "hunter2hunter2", "model": "small-one"})
    told = str(raised.value) + "".join(str(event) for event in agents.events(since=0, follow=False))
    assert "oops [secret]" in told
    assert "hunter2" not in told + caplog.text


def test_a_folder_that_is_not_there_is_named(runtime: Any, shell: Any, tmp_path: Path) -> None:
    assert "there is no folder" in failure(runtime(), shell("true", cwd=tmp_path / "no"))


def test_the_folder_may_be_the_agents(runtime: Any, shell: Any, tmp_path: Path) -> None:
    kind = shell("""printf '"%s"' "$PWD" """, cwd=lambda info: tmp_path / info.config)
    (tmp_path / "there").mkdir()
    assert ask(runtime(), kind, config="there") == str(tmp_path / "there")


def test_a_program_finds_signals_as_they_are_by_default(runtime: Any, shell: Any) -> None:
    """Python ignores SIGPIPE, and children would inherit that."""
    kind = shell("""sed -n 's/SigIgn:.//p' /proc/self/status | sed 's/.*/"&"/'""")
    standard = (1 << 31) - 1  # 1 to 31; what is above may be ignored by whoever started us all
    assert int(ask(runtime(), kind), 16) & standard == 0


# Limits


def test_memory_is_limited(runtime: Any) -> None:
    code = "x = bytearray(1 << 30); print(len(x))"
    limits = Limits(memory=500 << 20)
    kind = command_agent([sys.executable, "-I", "-S", "-c", code], name=next(NAMES), limits=limits)
    assert "MemoryError" in failure(runtime(), kind)


@pytest.mark.slow  # a second of computing
def test_computing_is_limited(runtime: Any, shell: Any) -> None:
    kind = shell("while :; do :; done", limits=Limits(cpu=1))
    assert "SIGXCPU" in failure(runtime(), kind)


def test_places_are_given_in_order_and_never_exceeded(runtime: Any, shell: Any, tmp_path: Path) -> None:
    agents = runtime(slots=8)
    script = (
        "echo $$ >> came; read x; test $(ls -d run.* 2>/dev/null | wc -l) -le 1 || exit 9; mkdir run.$$; "
    )
    kind = shell(script + "sleep 0.02; rmdir run.$$; echo $x", limits=Limits(processes=2))
    refs = [agents.spawn(kind, f"/t/a{n}") for n in range(12)]
    runs = [ref.followup(str(n)) for n, ref in enumerate(refs)]
    assert [run.result(DEADLINE) for run in runs] == list(range(12))


def test_an_agent_that_waits_for_a_place_explains_it(runtime: Any, shell: Any, until: Any) -> None:
    agents = runtime(slots=2)
    kind = shell("exec sleep 1000", limits=Limits(processes=1))
    busy = agents.spawn(kind, "/t/busy", input="x")
    until(lambda: busy.explain().waits_for is None and busy.info().status == "running")
    waits = agents.spawn(kind, "/t/waits", input="x")
    until(lambda: waits.explain().waits_for == "process", "waiting for a place")
    why = waits.explain()
    assert (why.place, why.held_by) == (0, ("/t/busy",))
    assert why.since is not None
    assert "one of 1 process that its kind may have, all taken; it is next" in str(why)
    assert busy.explain().waits_for is None
    busy.run.interrupt()
    until(lambda: waits.explain().waits_for is None)


def test_a_turns_time_is_limited(runtime: Any, shell: Any, tmp_path: Path) -> None:
    kind = shell("echo $$ > pid; sleep 1000", turn_timeout=0.5)
    assert "took longer than 0.5 s" in failure(runtime(), kind)
    assert not alive(int((tmp_path / "pid").read_text()))


# The end of a program


def test_an_interrupt_ends_it_with_all_that_it_started(
    runtime: Any, shell: Any, happened: Any, until: Any
) -> None:
    agents = runtime()
    kind = shell('sleep 1000 & setsid sleep 1001 & echo "[$$, $!]"; echo; echo go; wait')
    run = agents.spawn(kind, "/t/a", input="x").run
    pids = happened(agents, "message", "/t/a").data["data"]
    run.interrupt()
    with pytest.raises(RunInterrupted):
        run.result(DEADLINE)
    until(lambda: not any(map(alive, pids)))


def test_what_it_left_behind_ends_with_it(runtime: Any, shell: Any, happened: Any, until: Any) -> None:
    """It ended well, and its children would have gone on, in its group, and apart from it."""
    agents = runtime()
    other = agents.spawn(shell("echo $$; echo; echo go; exec sleep 1003"), "/t/other", input="x").run
    bystander = happened(agents, "message", "/t/other").data["data"]
    kind = shell(
        'sleep 1000 & a=$!; setsid sleep 1001 & (setsid sleep 1002 &) ; sleep 0.05; echo "[$$, $a, $!]"'
    )
    pids = ask(agents, kind)
    until(lambda: not any(map(alive, pids)))
    until(lambda: [pid for pid in descendants() if b"sleep" in command_of(pid)] == [bystander])
    assert not other.done()


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.slow  # 2 s until it is killed
def test_one_that_does_not_want_to_go_is_killed(runtime: Any, shell: Any, happened: Any) -> None:
    agents = runtime()
    kind = shell("trap '' TERM; echo $$; echo; echo go; while :; do sleep 0.1; done")
    run = agents.spawn(kind, "/t/a", input="x").run
    pid = happened(agents, "message", "/t/a").data["data"]
    run.interrupt()
    with pytest.raises(RunInterrupted):
        run.result(DEADLINE)
    assert not alive(pid)


def test_closing_the_agent_ends_it(runtime: Any, shell: Any, happened: Any, until: Any) -> None:
    agents = runtime()
    for end in ("close", "delete"):
        ref = agents.spawn(shell("echo $$; echo go; exec sleep 1000"), f"/t/{end}")
        ref.followup("x")
        pid = happened(agents, "message", f"/t/{end}").data["data"]
        getattr(ref, end)()
        until(lambda pid=pid: not alive(pid))


def test_closing_the_runtime_ends_it_and_reaps_it(runtime: Any, shell: Any, happened: Any) -> None:
    before = descendants()
    agents = runtime()
    agents.spawn(shell("echo $$; echo go; exec sleep 1000"), "/t/a", input="x")
    pid = happened(agents, "message", "/t/a").data["data"]
    agents.close(drain=0)
    assert not alive(pid)
    assert descendants() == before


def test_a_warden_that_is_killed_takes_its_programs_along_and_is_followed(
    runtime: Any, shell: Any, happened: Any, until: Any
) -> None:
    agents = runtime()
    kind = shell('echo $$; echo go; read x; test "$x" = stay && exec sleep 1000; echo 7')
    run = agents.spawn(kind, "/t/a", input="stay").run
    pid = happened(agents, "message", "/t/a").data["data"]
    (warden,) = [one for one in descendants() if b"reaper.py" in command_of(one) and one != pid]
    os.kill(warden, signal.SIGKILL)
    with pytest.raises(RunFailed, match="nobody saw how"):
        run.result(DEADLINE)
    until(lambda: not alive(pid))
    assert agents.agent("/t/a").followup("go").result(DEADLINE) == 7


def test_the_end_of_a_lost_wardens_programs_leaves_those_of_the_next_one_alone(
    runtime: Any, shell: Any, happened: Any, until: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """What it left does not want to go, and meanwhile there is another reaper."""
    monkeypatch.setattr(orphans, "TERM_GRACE_SECONDS", 0.5)
    agents = runtime()
    stubborn = "(trap '' TERM; while :; do sleep 0.1; done) & echo $!; echo go; wait"
    run = agents.spawn(shell(stubborn), "/t/old", input="x").run
    pid = happened(agents, "message", "/t/old").data["data"]
    (warden,) = [one for one in descendants() if b"reaper.py" in command_of(one)]
    os.kill(warden, signal.SIGKILL)
    until(lambda: "the warden of processes has ended" in caplog.text)  # what is asked of it now is refused
    new = agents.spawn(shell("echo $$; echo go; exec sleep 1000"), "/t/new", input="x").run
    happened(agents, "message", "/t/new")
    with pytest.raises(RunFailed, match="nobody saw how"):
        run.result(DEADLINE)  # nothing is left of it
    assert not alive(pid)
    assert agents.spawn(shell("echo 1"), "/t/more", input="x").run.result(DEADLINE) == 1
    assert not new.done()


# Definitions


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"argv": "ls -l"}, TypeError, "a command is a list"),
        ({"argv": [""]}, ValueError, "names a program"),
        ({"argv": ["a\0b"]}, ValueError, "NUL"),
        ({"answer": 1}, TypeError, "answer="),
        ({"prompt": 1}, TypeError, "prompt="),
        ({"longest_line": 0}, ValueError, "longest_line="),
        ({"longest_line": (64 << 20) + 1}, ValueError, "longest_line="),
        ({"name": ""}, ValueError, "name"),
    ],
)
def test_bad_definitions_are_refused(options: dict[str, Any], error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        command_agent(**{"argv": ["ls"], "name": next(NAMES), **options})


@pytest.mark.parametrize("name", ["processes", "memory", "cpu", "files", "file_size"])
def test_bad_limits_are_refused(name: str) -> None:
    for bad in (0, 1 << 64):
        with pytest.raises(ValueError, match=f"{name}= is an int"):
            Limits(**{name: bad})


def test_two_kinds_of_one_name_have_to_be_alike() -> None:
    name = next(NAMES)
    command_agent(["ls"], name=name, limits=Limits(cpu=1))
    command_agent(["ls"], name=name, limits=Limits(cpu=1))
    with pytest.raises(KindTaken):
        command_agent(["ls"], name=name, limits=Limits(cpu=2))
    command_agent(["ls"], name=name, limits=Limits(cpu=2), version=2)
