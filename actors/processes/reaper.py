"""The reaper: a small process that has all processes of a runtime for its children, and outlives them.

Run as `python -I -S warden.py SOCKET`, never imported; it uses the standard library alone. It decides
nothing: it forks, lets go, signals and tells. Why it is a process of its own: it has one thread, so what
it forks may prepare itself in Python and dies with it (PR_SET_PDEATHSIG goes by the parent's *thread*);
it is the subreaper of all that they start, so a program that leaves its session still ends up here; and
when its runtime is gone, in whatever way, it sees the end of the socket and ends everything.

Messages to it, each a JSON list in one packet:

    ["fork", number, mark]   with four descriptors: what to execute (JSON), standard input, output, error.
                             The child waits at a gate before it executes anything
    ["go", number]           open the gate
    ["end", number, signal]  signal its group, and what it left elsewhere

Messages from it:

    ["forked", number, pid, started]   it waits at its gate
    ["failed", number, problem]        it could not be forked or executed; "gone" follows if it was forked
    ["running", number]                its program is being executed
    ["exited", number, code]           its leader has ended; the code is that of `subprocess`
    ["gone", number]                   nothing of it is left
    ["stuck", number, problem]         it could not be signalled
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MARK = "GREENROOM_PROCESS"
POLL_SECONDS = 2.0  # seconds between two looks whether the runtime lives
REAPER_GRACE_SECONDS = 2.0  # seconds between SIGTERM and SIGKILL when it is gone


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    Reaper(channel).work()


class Job:
    """One process, and all that comes of it."""

    def __init__(self, number: int, mark: str, pid: int, gate: int, errors: int) -> None:
        self.number, self.pid, self.errors = number, pid, errors
        self.gate: int | None = gate  # until it is opened
        self.mark = f"{MARK}={mark}".encode()
        self.alive = True  # its leader
        self.grouped = True  # its group may have members; once it has none, its number may be another's
        self.signal: int | None = None  # the last one it was sent


class Reaper:
    """All jobs of one runtime."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.runtime = os.getppid()
        self.jobs: dict[int, Job] = {}
        self.by_pid: dict[int, Job] = {}  # those whose leader is alive
        self.by_errors: dict[int, Job] = {}
        self.poll = select.poll()
        self.poll.register(channel.fileno(), select.POLLIN)
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        self.woken = woken
        self.poll.register(woken, select.POLLIN)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.note)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runtime's to drain
        signal.set_wakeup_fd(wake)
        self.told_to_end = False

    def note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if number != signal.SIGCHLD:
            self.told_to_end = True

    def work(self) -> None:
        """Until the runtime is gone."""
        try:
            while not self.told_to_end and os.getppid() == self.runtime:
                for descriptor, _ in self.poll.poll(POLL_SECONDS * 1000):
                    if descriptor == self.channel.fileno():
                        if not self.hear():
                            return
                    elif descriptor == self.woken:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self.woken, 4096)
                    else:
                        self.executed(descriptor)
                self.reap()
        except ConnectionError:  # nobody listens any more
            pass
        finally:
            self.end_all()

    def tell(self, *words: object) -> None:
        self.channel.send(json.dumps(words).encode())

    def hear(self) -> bool:
        """Do what one packet says; whether there was one."""
        packet, descriptors, _, _ = socket.recv_fds(self.channel, 65536, 4)
        if not packet:
            return False
        for descriptor in descriptors:  # of `recv_fds` itself, which takes MSG_CMSG_CLOEXEC and ignores it
            os.set_inheritable(descriptor, False)
        what, number, *rest = json.loads(packet)
        if what == "fork":
            try:
                self.fork(number, rest[0], descriptors)
            except OSError as error:
                self.tell("failed", number, str(error))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
        elif number in self.jobs:  # else it is gone, which was told
            if what == "go":
                self.go(self.jobs[number])
            else:
                self.end(self.jobs[number], rest[0])
        return True

    def fork(self, number: int, mark: str, descriptors: list[int]) -> None:
        if len(descriptors) < 4:  # the system drops those that there is no room for
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        with open(descriptors[0], encoding="utf-8", closefd=False) as file:
            file.seek(0)
            program: dict[str, Any] = json.load(file)
        program["env"][MARK] = mark
        pipes: list[int] = []
        warden = os.getpid()
        try:
            for _ in range(2):
                pipes += os.pipe()
            pid = os.fork()
        except OSError:
            for end in pipes:
                os.close(end)
            raise
        gate, opener, errors, error = pipes
        if pid == 0:
            try:
                os.close(opener)  # or it would keep its own gate open when the reaper is gone
                prepare_and_execute(program, gate, descriptors[1:], warden)
            except BaseException as problem:
                said = f"{program['argv'][0]}: {getattr(problem, 'strerror', None) or problem}"
                os.write(error, said.encode(errors="backslashreplace")[:4000])
            finally:
                os._exit(127)
        os.close(gate)
        os.close(error)
        job = Job(number, mark, pid, opener, errors)
        self.jobs[number] = self.by_pid[pid] = self.by_errors[errors] = job
        self.poll.register(errors, select.POLLIN)
        self.tell("forked", number, pid, started(pid))

    def go(self, job: Job) -> None:
        if job.gate is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended before
                os.write(job.gate, b"g")
            os.close(job.gate)
            job.gate = None

    def executed(self, descriptor: int) -> None:
        """The end of its errors' pipe: closed by what is executed now, or told why nothing is."""
        job = self.by_errors.pop(descriptor)
        self.poll.unregister(descriptor)
        problem = os.read(descriptor, 4096).decode(errors="replace")  # it may be cut anywhere
        os.close(descriptor)
        if problem:
            self.tell("failed", job.number, problem)
        elif job.gate is None:  # else it was killed at its gate
            self.tell("running", job.number)

    def reap(self) -> None:
        """Take note of every child that has ended, then see of what nothing is left."""
        ended = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            ended = True
            job = self.by_pid.pop(pid, None)
            if job is not None:
                job.alive = False
                if self.by_errors.get(job.errors) is job:  # the number may be another's by now
                    self.executed(job.errors)
                self.tell("exited", job.number, os.waitstatus_to_exitcode(status))
        if ended:
            for job in [job for job in self.jobs.values() if not job.alive]:
                self.look(job)
            if not self.jobs:
                self.sweep(signal.SIGKILL)  # of whom it was, nobody can tell; of somebody who is gone

    def look(self, job: Job) -> None:
        """Whether anything of a job whose leader has ended is left."""
        job.grouped = job.grouped and exists(-job.pid)
        if not job.grouped and not self.strays(job):
            if job.gate is not None:
                os.close(job.gate)
            del self.jobs[job.number]
            self.tell("gone", job.number)
        elif job.signal is not None:
            self.signal(job, job.signal)  # what has come to light since

    def end(self, job: Job, number: int) -> None:
        self.signal(job, number)
        if not job.alive:
            self.look(job)

    def signal(self, job: Job, number: int) -> None:
        job.signal = number
        problem = None
        if exists(-job.pid) if job.alive else job.grouped:
            problem = send(-job.pid, number)
        elif job.alive:  # it is forked, and has no group of its own yet
            problem = send(job.pid, number)
        for stray in self.strays(job):
            problem = send(stray, number) or problem
        if problem:
            self.tell("stuck", job.number, problem)

    def strays(self, job: Job) -> list[int]:
        """A descendant that has left its group and lost its parent: it has ended up here."""
        found = []
        for pid in children():
            if pid not in self.by_pid and (session(pid) == job.pid or job.mark in environment(pid)):
                found.append(pid)
        return found

    def sweep(self, number: int) -> None:
        for pid in children():
            if pid not in self.by_pid:
                send(pid, number)

    def end_all(self) -> None:
        """The runtime is gone: end everything, politely at first, and go."""
        for number, patience in (
            (signal.SIGTERM, REAPER_GRACE_SECONDS),
            (signal.SIGKILL, 2 * REAPER_GRACE_SECONDS),
        ):
            until = time.monotonic() + patience
            while time.monotonic() < until:
                pids = children()
                if not pids:
                    return
                for job in list(self.jobs.values()):
                    if job.grouped and exists(-job.pid):
                        send(-job.pid, number)
                for pid in pids:
                    send(pid, number)
                select.select([], [], [], 0.02)
                with contextlib.suppress(ChildProcessError):
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass


def prepare_and_execute(program: dict[str, Any], gate: int, streams: list[int], warden: int) -> None:
    """In the child: become a group and a session, take on the limits, wait at the gate, execute."""
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):  # what the runtime ignored, too
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != warden:
        return  # it was gone before we asked to go with it
    for target, descriptor in enumerate(streams):
        os.dup2(descriptor, target)
    if not os.read(gate, 1):
        return  # the reaper is gone, or the runtime wants nothing of this any more
    if program["cwd"] is not None:
        os.chdir(program["cwd"])
    for name, value in program["limits"].items():
        limit(name, value)
    os.execvpe(program["argv"][0], program["argv"], program["env"])


def limit(name: str, value: int) -> None:
    number = getattr(resource, f"RLIMIT_{name}")
    hard = resource.getrlimit(number)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    upper = (
        value + 2 if name == "CPU" and hard == resource.RLIM_INFINITY else value
    )  # SIGXCPU, then SIGKILL
    resource.setrlimit(number, (value, upper))


def prctl(option: int, value: int) -> None:
    """Where the system has it. The next start finds the processes that it would have ended."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def send(pid: int, number: int) -> str | None:
    """Signal a process, or a group if negative; the problem, if there is one."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return None
    except OSError as error:
        return f"process {abs(pid)}: {error.strerror}"
    return None


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def children() -> list[int]:
    """Of this process, the dead ones that nobody waited for left out."""
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children", encoding="ascii") as file:
            found = [int(word) for word in file.read().split()]
    except OSError:
        found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        found = [pid for pid in found if int((stat(pid) or ["0", "0"])[1]) == me]
    return [pid for pid in found if (stat(pid) or "Z")[0] not in ("Z", "X")]


def stat(pid: int) -> list[str] | None:
    """State, parent, group, session, …; nothing if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return None


def started(pid: int) -> int:
    fields = stat(pid)
    return int(fields[19]) if fields else 0


def session(pid: int) -> int:
    fields = stat(pid)
    return int(fields[3]) if fields else 0


def environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


if __name__ == "__main__":
    main()
