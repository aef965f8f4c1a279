"""The reaper by itself, at the other end of its socket: what it tells, and what can go wrong with it."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom.actors.processes.reaper_client import SCRIPT

DEADLINE = 600.0


class Wardens:
    """One reaper, and how many descriptors were handed to it."""

    def __init__(self, before: str = "", limit: int | None = None) -> None:
        self.channel, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(DEADLINE)
        # as it is run, but for what `before` changes of the system that it sees
        run = f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        code = f"import runpy, os, errno, sys\n{before}\n{run}"
        files = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))) if limit else None
        with its:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code, str(its.fileno())],
                pass_fds=[its.fileno()],
                preexec_fn=files,
            )

    def say(self, *words: object, descriptors: tuple[int, ...] = ()) -> None:
        socket.send_fds(self.channel, [json.dumps(words).encode()], descriptors)

    def fork(self, number: int, *argv: str) -> int:
        """Have a program forked; our end of its output."""
        spec = os.memfd_create("spec")
        described = {"argv": argv, "env": {"PATH": os.environ["PATH"]}, "cwd": None, "limits": {}}
        os.write(spec, json.dumps(described).encode())
        nothing = os.open(os.devnull, os.O_RDWR)
        output, its = os.pipe()
        self.say("fork", number, f"token.{number}", descriptors=(spec, nothing, its, nothing))
        for descriptor in (spec, nothing, its):
            os.close(descriptor)
        return output

    def hear(self) -> list[Any]:
        said: list[Any] = json.loads(self.channel.recv(65536))
        return said

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@pytest.fixture
def warden() -> Iterator[Callable[..., Wardens]]:
    made: list[Wardens] = []

    def make(**options: Any) -> Wardens:
        made.append(Wardens(**options))
        return made[-1]

    yield make
    for one in made:
        one.channel.close()
        assert one.process.wait(DEADLINE) == 0


def test_a_program_has_three_streams_and_nothing_else_of_ours(warden: Any) -> None:
    one = warden()
    code = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))"
    output = one.fork(1, sys.executable, "-I", "-S", "-c", code)
    assert one.hear()[:2] == ["forked", 1]
    one.say("go", 1)
    assert one.hear() == ["running", 1]
    assert json.loads(os.read(output, 4096)) == [0, 1, 2, 3]  # the last is that of the list itself
    os.close(output)
    assert [one.hear(), one.hear()] == [["exited", 1, 0], ["gone", 1]]


def test_the_end_of_its_output_is_seen_while_it_goes_on(warden: Any) -> None:
    one = warden()
    output = one.fork(1, "sh", "-c", "exec >&-; exec sleep 1000")
    one.hear()
    one.say("go", 1)
    assert os.read(output, 1) == b""
    os.close(output)
    one.say("end", 1, signal.SIGKILL)


def test_one_that_has_no_group_of_its_own_yet_is_ended_all_the_same(warden: Any) -> None:
    """It is told to end between its fork and its `setsid`."""
    one = warden(before="os.setsid = lambda: None")
    output = one.fork(1, "sleep", "1000")
    assert one.hear()[:2] == ["forked", 1]
    one.say("end", 1, signal.SIGKILL)
    assert [one.hear(), one.hear()] == [["exited", 1, -signal.SIGKILL], ["gone", 1]]
    os.close(output)


def test_a_fork_that_fails_costs_nothing_and_stops_nobody(warden: Any) -> None:
    fails = "def fail(): raise BlockingIOError(errno.EAGAIN, 'no more processes')\nos.fork = fail"
    one = warden(before=fails)
    os.close(one.fork(1, "true"))
    assert one.hear() == ["failed", 1, "[Errno 11] no more processes"]
    before = one.descriptors()
    for number in range(2, 6):
        os.close(one.fork(number, "true"))
        assert one.hear()[:2] == ["failed", number]
    assert one.descriptors() < before + 8  # two pipes each would be 16


def test_a_program_that_there_are_no_descriptors_for_is_refused_and_the_warden_lives(warden: Any) -> None:
    one = warden(limit=6)  # it needs all but one itself
    for number in (1, 2):
        os.close(one.fork(number, "true"))
        assert one.hear() == ["failed", number, "[Errno 24] Too many open files"]


def test_a_complaint_that_is_cut_within_a_letter_is_told(warden: Any) -> None:
    one = warden()
    os.close(one.fork(1, "x" + "ü" * 4000))
    one.hear()
    one.say("go", 1)
    assert one.hear()[:2] == ["failed", 1]
    assert [one.hear(), one.hear()] == [["exited", 1, 127], ["gone", 1]]


def test_all_of_it_ends_with_the_runtime(warden: Any, tmp_path: Path) -> None:
    one = warden()
    output = one.fork(1, "sh", "-c", "sleep 1000 & setsid sleep 1000 & echo go; wait")
    _, _, pid, _ = one.hear()
    one.say("go", 1)
    os.read(output, 3)
    one.channel.close()
    one.process.wait(DEADLINE)
    assert os.read(output, 1) == b""  # nobody has it any more
    os.close(output)
    assert not Path(f"/proc/{pid}").exists()
