"""Processes that are left and that no reaper of ours has: found in `/proc`, ended by pidfd, never by guess.

On a thread. A process is ended in three cases: a record names it (pid and start agree), it is in the group
or session of such a one, or it carries the record's mark. Before a signal the start is read once more, with
the process held by a descriptor. So a pid that is reused in between harms nobody.
"""

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

from ...persistence.lease import held_here, instant, start_of, this_process
from ...persistence.lease_rules import Process
from ...persistence.processes import OrphanRecord, OrphanVerdict, ProcessRow, judge
from ...types import Seconds
from .protocol import OrphansEnded

TERM_GRACE_SECONDS: Seconds = 2.0
SEARCH_ROUNDS = 4
"""Looks at the system while something is ended: what is ended may have started more."""


class Seen(Struct, frozen=True):
    """A process, as the system shows it."""

    pid: int
    started: int
    group: int
    session: int
    mark: str  # "" where it has none, or hides it


def end_left(rows: Sequence[OrphanRecord], file: str, *, owned: bool) -> OrphansEnded:
    """Judge each of `rows`; end what is there and nobody owns. Takes seconds if that does not want to go.

    `file` is what the store is now. `owned`: nobody else owns them, whatever the records say.
    """
    me = this_process()
    verdicts = {row.number: _judge(row, me, file, owned=owned) for row in rows}
    wanted = [row for row in rows if verdicts[row.number] != "spared"]
    spared = {row.token for row in rows if verdicts[row.number] == "spared" and row.token}
    problems: dict[int, str] = {}
    # only a dead owner's reaper is ended: a live one has others' processes, or is our own next one
    wardens = {} if owned else {row.token: row.number for row in reversed(wanted) if row.token is not None}
    for turn in range(SEARCH_ROUNDS):
        found = list(_of(wanted, verdicts, spared, wardens))
        if not found:
            problems = {}
            break
        patient = turn == 0
        problems = _end(found, patient=patient)
    else:
        for number, one in _of(wanted, verdicts, spared, wardens):
            problems.setdefault(number, f"process {one.pid} does not go")
    cleared = {number: verdict for number, verdict in verdicts.items() if number not in problems}
    return OrphansEnded({number: str(verdict) for number, verdict in cleared.items()}, problems)


def _judge(row: OrphanRecord, me: Process, file: str, *, owned: bool) -> OrphanVerdict:
    if not isinstance(row, ProcessRow):
        return "torn"
    owner = row.owner.process
    return judge(
        row,
        me,
        here=owned or row.file == file,
        seen=start_of(row.process.pid),
        owner_seen=start_of(owner.pid),
        held=held_here(row.file, row.owner.epoch),
        now=instant(),
    )


def _of(
    rows: Iterable[OrphanRecord],
    verdicts: dict[int, OrphanVerdict],
    spared: set[str],
    wardens: dict[str, int],
) -> Iterator[tuple[int, Seen]]:
    """The processes that belong to `rows`, each with its record's number."""
    marks: dict[str, int] = {}
    leaders: dict[int, ProcessRow] = {}
    for row in rows:
        if row.mark is not None and row.token not in spared:
            marks[row.mark] = row.number
        if isinstance(row, ProcessRow) and verdicts[row.number] == "there":
            leaders[row.process.pid] = row
    seen = list(everybody())
    # the leader of a group may have ended since; its number is nobody else's as long as that group lives
    alive = {one.pid: one.started for one in seen}
    ours = {
        pid: row.number
        for pid, row in leaders.items()
        if alive.get(pid, row.process.started) == row.process.started
    }
    myself = os.getpid()
    for one in seen:
        if one.pid == myself:
            continue
        number = ours.get(one.group, ours.get(one.session))
        if number is None:
            number = marks.get(one.mark)
        if number is None and one.mark not in spared:
            number = wardens.get(one.mark)
        if number is not None:
            yield number, one


def everybody() -> Iterator[Seen]:
    """All living processes that this one can see."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            mark = ""
            with suppress(PermissionError), open(f"/proc/{name}/environ", "rb") as file:
                for entry in file.read().split(b"\0"):
                    if entry.startswith((b"GREENROOM_PROCESS=", b"GREENROOM_WARDEN=")):
                        mark = entry.partition(b"=")[2].decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if fields[0] not in (b"Z", b"X", b"x"):
            yield Seen(int(name), int(fields[19]), int(fields[2]), int(fields[3]), mark)


def _end(found: Iterable[tuple[int, Seen]], *, patient: bool) -> dict[int, str]:
    """Ask all to go if `patient`, then kill; by number what could not be done."""
    problems: dict[int, str] = {}
    descriptors: dict[int, int] = {}
    try:
        for number, one in found:
            try:
                descriptor = os.pidfd_open(one.pid)
            except ProcessLookupError:
                continue
            except OSError as error:
                problems[number] = f"process {one.pid}: {error.strerror}"
                continue
            if start_of(one.pid) == one.started:
                descriptors[descriptor] = number
            else:
                os.close(descriptor)
        for signum in (signal.SIGTERM, signal.SIGKILL) if patient else (signal.SIGKILL,):
            for descriptor, number in list(descriptors.items()):
                try:
                    end_by_descriptor(descriptor, signum)
                except ProcessLookupError:
                    pass
                except OSError as error:
                    problems[number] = f"it cannot be ended: {error.strerror}"
            for descriptor in _ended(descriptors, TERM_GRACE_SECONDS):
                os.close(descriptor)
                del descriptors[descriptor]
            if not descriptors:
                break
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return problems


def end_by_descriptor(descriptor: int, signum: int) -> None:
    """A function of its own, so that a test can have it fail."""
    signal.pidfd_send_signal(descriptor, signum)


def _ended(descriptors: Iterable[int], seconds: Seconds) -> list[int]:
    """Those whose processes have ended, when all have or the time is over."""
    poll = select.poll()
    waiting = set(descriptors)
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    ended: list[int] = []
    until = time.monotonic() + seconds
    while waiting and (left := until - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            poll.unregister(descriptor)
            waiting.discard(descriptor)
            ended.append(descriptor)
    return ended
