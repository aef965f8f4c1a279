"""The command as a process: stopped, killed and started again."""

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import pytest

Start = Callable[..., Any]
WriteAgents = Callable[[str], Path]

COUNTING = """
    @agent
    async def counting(turn):
        begun = turn.state["begun"] = turn.state.get("begun", 0) + 1
        await turn.checkpoint()
        reached(f"attempt {turn.attempt}, begun {begun}")
        if begun == 1:
            await asyncio.Event().wait()
        return [turn.input, begun]
    """

TREE = """
    @agent
    async def root(turn):
        stages = turn.state.setdefault("stages", [])
        stages.append(turn.input if isinstance(turn.input, int) else 0)
        if not turn.results:
            children = [await turn.spawn(child, f"child-{n}") for n in range(5)]
            runs = [await child.followup(n) for n, child in enumerate(children)]
            await turn.after(*runs, input=1)
            return "not yet"
        return {"stages": stages, "results": [outcome.result for outcome in turn.results]}

    @agent
    async def child(turn):
        begun = turn.state["begun"] = turn.state.get("begun", 0) + 1
        await turn.checkpoint()
        if turn.input == 4:
            reached("the last one")
            if begun == 1:
                await asyncio.Event().wait()
        return [turn.input, begun]
    """

LEISURELY = """
    @agent
    async def leisurely(turn):
        reached("begun")
        await asyncio.to_thread(passing)
        turn.state["turns"] = turn.state.get("turns", 0) + 1
        return turn.state["turns"]
    """

STUBBORN = """
    @agent
    def stubborn(turn):
        reached(f"attempt {turn.attempt}")
        if not Path("second").exists():
            Path("second").touch()
            while True:
                time.sleep(1000)
        return "returned"

    @agent
    async def rude(turn):
        await turn.checkpoint()  # that it began is on disk
        reached(f"attempt {turn.attempt}")
        if not Path("second").exists():
            Path("second").touch()
            while True:
                time.sleep(1000)
        return "returned"
    """


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGINT, ()),
        (signal.SIGINT, ("--store", "counting.db")),
        pytest.param(signal.SIGTERM, (), marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, (), marks=pytest.mark.slow),
    ],
)
def test_a_command_that_was_stopped_goes_on_where_it_was(
    number: signal.Signals, options: tuple[str, ...], start: Start, write_agents: WriteAgents, reached: Any
) -> None:
    command = (write_agents(COUNTING), "--input", "the work", *options)
    process = start(*command)
    assert reached.line() == "attempt 1, begun 1"
    process.send_signal(number)
    stopped = process.end()
    assert (stopped.status, stopped.out) == (130, "")
    assert "The same command goes on from here; the agents are in" in stopped.err
    assert "Traceback" not in stopped.err

    again = start(*command).end()
    assert reached.line() == "attempt 2, begun 2"  # its code begins for the second time
    assert (again.status, json.loads(again.out)) == (0, ["the work", 2])
    assert "Going on with the run of /counting" in again.err


def test_a_command_that_was_killed_goes_on_where_it_was(
    start: Start, write_agents: WriteAgents, reached: Any
) -> None:
    file = write_agents(COUNTING)
    process = start(file, "--input", "the work")
    assert reached.line() == "attempt 1, begun 1"
    process.kill()
    assert process.end().status == -signal.SIGKILL

    again = start(file, "--input", "the work").end()
    assert reached.line() == "attempt 2, begun 2"
    assert (again.status, json.loads(again.out)) == (0, ["the work", 2])


def test_a_run_that_is_under_way_keeps_its_own_input(
    start: Start, write_agents: WriteAgents, reached: Any
) -> None:
    file = write_agents(COUNTING)
    process = start(file, "--input", "the work", "--store", "counting.db")
    reached.line()
    process.kill()
    process.end()
    again = start(file, "--input", "something else", "--store", "counting.db").end()
    assert json.loads(again.out) == ["the work", 2]
    assert "--input is not used" in again.err


def test_without_a_store_another_input_is_another_run(
    start: Start, write_agents: WriteAgents, reached: Any
) -> None:
    file = write_agents(COUNTING)
    process = start(file, "--input", "the work")
    reached.line()
    process.kill()
    process.end()
    other = start(file, "--input", "something else")
    assert reached.line() == "attempt 1, begun 1"
    other.kill()
    other.end()


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_tree_that_was_stopped_keeps_what_it_had_done(
    how: signal.Signals, start: Start, write_agents: WriteAgents, reached: Any
) -> None:
    target = f"{write_agents(TREE)}:root"
    process = start(target, "--slots", 1, "--residents", 2)  # so the others have ended before the last
    reached.line()
    process.send_signal(how)
    process.end()
    again = start(target, "--slots", 1, "--residents", 2).end()
    assert again.status == 0, again
    results = [[0, 1], [1, 1], [2, 1], [3, 1], [4, 2]]
    assert json.loads(again.out) == {"stages": [0, 1], "results": results}


def test_a_run_that_ends_in_the_time_to_drain_has_ended(
    start: Start, write_agents: WriteAgents, reached: Any, passing: Any
) -> None:
    process = start(write_agents(LEISURELY), "--store", "leisurely.db")
    reached.line()
    process.send_signal(signal.SIGINT)
    while "Stopping" not in process.stderr.readline():
        pass
    passing.open()
    ended = process.end()
    assert (ended.status, ended.out) == (0, "1\n")
    assert "goes on from here" not in ended.err


def test_a_second_signal_ends_the_command_at_once(
    start: Start, write_agents: WriteAgents, reached: Any
) -> None:
    target = f"{write_agents(STUBBORN)}:stubborn"
    process = start(target)
    reached.line()
    process.send_signal(signal.SIGINT)
    while "Stopping" not in process.stderr.readline():
        pass
    while process.poll() is None:  # a second one at once is taken for the first
        process.send_signal(signal.SIGINT)
        with suppress(TimeoutExpired):
            process.wait(0.05)
    ended = process.end()
    assert ended.status == 130
    assert "Stopped" not in ended.err  # it did not wait for the drain
    again = start(target).end()
    assert (again.status, again.out) == (0, "returned\n")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stubborn", "rude"])
def test_code_that_does_not_return_does_not_hold_up_the_end(
    kind: str, start: Start, write_agents: WriteAgents, reached: Any
) -> None:
    target = f"{write_agents(STUBBORN)}:{kind}"
    process = start(target)
    assert reached.line() == "attempt 1"
    process.send_signal(signal.SIGINT)
    stopped = process.end()
    assert stopped.status == 130
    assert "did not return" in stopped.err
    again = start(target).end()
    assert reached.line() == "attempt 2"
    assert (again.status, again.out) == (0, "returned\n")


def test_a_thread_that_a_turn_leaves_behind_does_not_hold_up_the_end(
    start: Start, write_agents: WriteAgents
) -> None:
    file = write_agents(
        """
        import threading

        @agent
        def leaving(turn):
            threading.Thread(target=time.sleep, args=(1000,)).start()
            return "left"
        """
    )
    ended = start(file).end()
    assert (ended.status, ended.out) == (0, "left\n")


def test_a_command_can_be_stopped_while_the_file_loads(
    start: Start, write_agents: WriteAgents, reached: Any
) -> None:
    process = start(write_agents("reached('loading')\ntime.sleep(1000)\n"), "--json")
    reached.line()
    process.send_signal(signal.SIGINT)
    stopped = process.end()
    assert stopped.status == 130
    assert json.loads(stopped.out)["status"] == "stopped"
    assert "Traceback" not in stopped.err


@pytest.mark.slow
def test_a_store_in_memory_is_said_to_be_lost(
    start: Start, write_agents: WriteAgents, reached: Any
) -> None:
    process = start(write_agents(COUNTING), "--store", ":memory:", "--json")
    reached.line()
    process.send_signal(signal.SIGINT)
    stopped = process.end()
    assert stopped.status == 130
    assert json.loads(stopped.out.splitlines()[-1])["status"] == "stopped"


def test_a_result_that_was_not_told_is_told_by_the_same_command(
    start: Start, write_agents: WriteAgents, reached: Any, tmp_path: Path
) -> None:
    file = write_agents(
        """
        @agent
        async def telling(turn):
            turn.state["turns"] = turn.state.get("turns", 0) + 1
            return f"{turn.state['turns']} " + "x" * 1_000_000
        """
    )
    process = start(file)
    assert process.stdout.read(1) == "1"  # more than a pipe holds: it waits for its reader
    process.kill()
    process.wait()
    again = start(file).end()
    assert again.status == 0
    assert again.out.startswith("1 xxx")
    assert len(again.out) == 1_000_003


def test_a_reader_that_goes_away_ends_the_command(
    start: Start, write_agents: WriteAgents, reached: Any, passing: Any
) -> None:
    file = write_agents(
        """
        @agent
        async def reading(turn):
            reached("begun")
            await asyncio.to_thread(passing)
            return "x" * 1_000_000
        """
    )
    process = start(file)
    reached.line()
    process.stdout.close()
    passing.open()
    process.stdout = None
    ended = process.end()
    assert ended.status == 1
    assert "Traceback" not in ended.err


@pytest.mark.slow
def test_work_of_others_that_is_left_is_kept(
    start: Start, write_agents: WriteAgents, reached: Any, tmp_path: Path
) -> None:
    file = write_agents(
        """
        @agent
        async def leaving_work(turn):
            other = await turn.spawn(others, "other")
            await other.followup("forever")
            return "done"

        @agent
        async def others(turn):
            await asyncio.Event().wait()
        """
    )
    ended = start(f"{file}:leaving_work").end()
    assert (ended.status, ended.out) == (0, "done\n")
    assert "1 runs of other agents have not ended; they are kept in" in ended.err
    kept = Path(ended.err.rpartition("kept in ")[2].strip())
    assert kept.is_file()
    assert start(f"{file}:leaving_work").end().out == "done\n"  # the same command begins anew


@pytest.mark.slow
def test_a_run_that_nothing_happens_to_says_what_it_waits_for(
    start: Start, write_agents: WriteAgents, reached: Any
) -> None:
    target = f"{write_agents(TREE)}:root"
    process = start(target, "--store", "tree.db", "--slots", 1)
    reached.line()
    process.kill()
    process.end()
    write_agents(TREE.replace("def child(turn)", "def renamed(turn)"))
    process = start(target, "--store", "tree.db", "--slots", 1)
    while (line := process.stderr.readline()) and "/root is" not in line:
        pass
    assert "/root is idle: its next run goes on when run " in line
    assert " of /root/child-4 has ended. /root/child-4 is" in line
    assert "its kind 'child' is not registered" in line
    process.send_signal(signal.SIGINT)
    assert process.end().status == 130
