"""The examination: every check on one store, in bounded memory, without a change to it."""

import sqlite3
import time
from collections.abc import Iterator

from ...types import Timestamp
from .. import schema_steps, transient
from . import agent_checks, file_checks, number_checks, run_checks, value_checks
from .check import BACKUP, Check, CheckProblem
from .inspection import Inspection, Progress, inspecting, met, raise_if_stopped
from .numbers import count, measure
from .owner import look_for_owner
from .report import Counts, DoctorReport, Finding, OwnerSeen

CHECKS: tuple[Check, ...] = (
    *file_checks.ANY_VERSION,
    *file_checks.CHECKS,
    *number_checks.CHECKS,
    *agent_checks.CHECKS,
    *run_checks.CHECKS,
    *value_checks.CHECKS,
)
MOST_OF_A_FINDING = 10
"""Problems that one check tells singly; the rest is a number."""

LOOKS = 5
"""At most, until SQLite breaks the same checks twice in a row: an opening or a closing disturbs a look."""


def no_progress(what: str) -> None:
    """Tell nobody."""


def examine(
    store: str,
    *,
    quick: bool = False,
    now: Timestamp | None = None,
    progress: Progress = no_progress,
) -> DoctorReport:
    """Examine the file `store`, and change nothing in it; a live owner goes on with its work meanwhile.

    Each check sees one moment, so what the owner commits meanwhile is no contradiction. `quick` reads no
    values and does not hold indexes against their tables. Time grows with the file, memory does not.
    Raises `StoreError` for what cannot be examined at all: no file, no store, a newer greenroom's.
    """

    def once() -> tuple[DoctorReport, list[str]]:
        at = time.time() if now is None else now
        with inspecting(store, now=at, quick=quick, progress=progress) as inspection:
            doubts: list[str] = []
            return _examine(inspection, doubts), doubts

    before: list[str] = []
    for _ in range(LOOKS):
        report, doubts = transient.look(store, once)
        if doubts == before:
            break
        before = doubts
    return report


def _examine(store: Inspection, doubts: list[str]) -> DoctorReport:
    """`doubts`: names of the checks that SQLite broke. Its word is believed when it says so again."""
    begun = time.monotonic()
    version = store.version
    checks = [
        check
        for check in CHECKS
        if not (check.deep and store.quick)
        and (version == len(schema_steps.STEPS) or check in file_checks.ANY_VERSION)
    ]
    findings: list[Finding] = []
    for number, check in enumerate(checks, 1):
        store.progress(f"{number}/{len(checks)} {check.name}")
        findings += _findings(check, store, doubts)
    store.progress("sizes")
    with store.one_moment():
        sizes, counts, owner = measure(store), _counts(store), _owner(store)
    return DoctorReport(
        store=store.store,
        at=store.now,
        seconds=time.monotonic() - begun,
        quick=store.quick,
        schema=version,
        owner=owner,
        sizes=sizes,
        counts=counts,
        checks=tuple(check.name for check in checks),
        findings=tuple(findings),
    )


def _findings(check: Check, store: Inspection, doubts: list[str]) -> Iterator[Finding]:
    more = 0
    with store.one_moment():
        try:
            for number, problem in enumerate(check.find(store)):
                if number < MOST_OF_A_FINDING:
                    yield _finding(check, CheckProblem(problem) if isinstance(problem, str) else problem)
                else:
                    more += 1
        except Exception as error:  # whatever breaks a check is an answer to it
            raise_if_stopped(error)
            if isinstance(error, sqlite3.Error):
                doubts.append(check.name)
            yield Finding(check.name, "error", f"this could not be checked: {met(error)}", BACKUP)
    if more:
        yield _finding(check, CheckProblem(f"and {more:,} more like these"))


def _finding(check: Check, problem: CheckProblem) -> Finding:
    return Finding(
        check=check.name,
        severity=problem.severity or check.severity,
        what=problem.what,
        advice=check.advice if problem.advice is None else problem.advice,
        repairable=check.repairable if problem.repairable is None else problem.repairable,
    )


def _counts(store: Inspection) -> Counts:
    try:
        return count(store)
    except Exception as error:  # a table or a value is not what it should be, which is a finding already
        raise_if_stopped(error)
        return Counts()


def _owner(store: Inspection) -> OwnerSeen | None:
    try:
        return look_for_owner(store.store, store.connection)
    except Exception as error:  # as above
        raise_if_stopped(error)
        return None
