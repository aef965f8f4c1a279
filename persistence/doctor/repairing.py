"""The repair of a store: owned meanwhile, copied before, examined after.

Every repair is a transaction of its own: it is done, or nothing of it is, and the steps say which.
"""

import os
import sqlite3
import time
from collections.abc import Iterator

from ...errors import StoreError, StoreInUse
from ...types import Timestamp
from ..keys import key_path, read_key
from ..lease import StoreLease
from .examination import MOST_OF_A_FINDING, examine, no_progress
from .file_checks import files_of
from .inspection import Inspection, Progress, inspecting, met, raise_if_stopped
from .owner import look_for_owner, writing
from .repairs import BEFORE_TAKING, REPAIRS, Bench, Mend
from .report import DoctorReport, Repair

REPAIR_ROUNDS = 3
"""A repair can uncover what another check could not see."""

HINDRANCES = {
    "pages": "pages of it are damaged, and writing could damage more. Put back a backup",
    "tables": "its tables are not those of this greenroom. Put back a backup",
    "additions": "what somebody added to it could do anything when something is written. Drop it first",
}
"""By check: why nothing is written into a file that has such a finding which no repair can put right."""


def repair(
    store: str,
    *,
    quick: bool = False,
    now: Timestamp | None = None,
    progress: Progress = no_progress,
) -> Repair:
    """Put right what can be without losing anything, and say what was done.

    Before the first change the store is copied to `STORE.before-repair-N`, with its key. Raises
    `StoreInUse` while somebody owns the store, `StoreError` if it cannot be examined or not be copied.
    """
    _refuse_if_in_use(store)
    before = after = examine(store, quick=quick, now=now, progress=progress)
    steps: list[str] = []
    backup: str | None = None
    for _ in range(REPAIR_ROUNDS):
        wanted = {finding.check for finding in after.findings if finding.repairable}
        if not wanted:
            break
        if "file-modes" in wanted:
            steps += _take_rights_away(store)
            wanted.remove("file-modes")
        hindrance = _hindrance(after) if wanted else None
        if hindrance is not None:
            steps.append(f"left everything in the file as it was: {hindrance}")
        elif wanted:
            epoch = None
            if backup is None:
                backup, epoch = back_up(store, progress)
                steps.append(f"copied the store as it was to {backup}")
            steps += _mend(store, wanted, epoch, progress)
        last, after = after, examine(store, quick=quick, now=now, progress=progress)
        if hindrance is not None or after.findings == last.findings:
            break
    return Repair(before, after, tuple(steps), backup)


def _hindrance(report: DoctorReport) -> str | None:
    for finding in report.findings:
        if finding.check in HINDRANCES and not finding.repairable:
            return HINDRANCES[finding.check]
    return None


def _refuse_if_in_use(store: str) -> None:
    with inspecting(store, now=0.0, quick=True, progress=no_progress) as inspection:
        try:
            seen = look_for_owner(store, inspection.connection)
        except sqlite3.Error:  # no such table: then nobody can have it open
            return
    if seen is not None and seen.alive:
        raise StoreInUse(store, seen.said)


def _mend(store: str, wanted: set[str], epoch: int | None, progress: Progress) -> list[str]:
    """Do the repairs of the checks in `wanted`; `epoch` is that of the copy, if it was made just now."""
    steps: list[str] = []

    def first(connection: sqlite3.Connection) -> None:
        for check, mend in BEFORE_TAKING.items():
            if check in wanted:
                steps.extend(_shortened(mend(Bench(connection, time.time()))))

    if "schema-version" in wanted:
        steps.append("brought the schema up to date")
    with writing(store, first) as (connection, claim):
        if epoch is not None and claim.epoch != epoch + 1 and not steps:
            raise StoreInUse(store, "somebody has opened it since it was copied. Try again")
        if "owner" in wanted:
            steps.append("cleared the record of the owner, which named nobody")
        for check, mend in REPAIRS.items():
            if check in wanted:
                progress(f"repairing {check}")
                steps += _in_a_transaction(connection, claim, check, mend)
    return steps


def _in_a_transaction(
    connection: sqlite3.Connection, claim: StoreLease, check: str, mend: Mend
) -> list[str]:
    claim.renew()
    connection.execute("BEGIN IMMEDIATE")
    try:
        claim.check()
        steps = _shortened(mend(Bench(connection, time.time())))
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if not isinstance(error, Exception) or isinstance(error, StoreError):
            raise
        raise_if_stopped(error)
        return [f"could not repair {check}, and left it as it was: {met(error)}"]
    return steps


def _shortened(steps: Iterator[str]) -> list[str]:
    """All of `steps` are taken; the first are told, and how many more there were."""
    told: list[str] = []
    more = 0
    for step in steps:
        if len(told) < MOST_OF_A_FINDING:
            told.append(step)
        else:
            more += 1
    return [*told, f"… and {more:,} more like these"] if more else told


def _take_rights_away(store: str) -> Iterator[str]:
    for name in files_of(store):
        mode = os.lstat(name).st_mode
        if mode & 0o077:
            os.chmod(name, mode & 0o700 & ~0o100)
            yield f"gave {name} the mode 0600: nobody else can read it now"


def back_up(store: str, progress: Progress) -> tuple[str, int | None]:
    """Copy the store, log included, and its key. The copy's name, and its epoch; whole or not at all."""
    name = _free_name(store)
    try:
        with inspecting(store, now=0.0, quick=True, progress=progress) as inspection:
            copy = sqlite3.connect(name, isolation_level=None)
            try:
                inspection.connection.backup(
                    copy,
                    pages=4096,
                    progress=lambda _, left, pages: progress(f"copying: {left:,} of {pages:,} pages left"),
                )
            finally:
                copy.close()
            epoch = _epoch(inspection)
        _copy_key(store, name)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, sqlite3.Error | OSError):
            raise StoreError(
                store, f"it cannot be copied to {name}, so nothing was repaired: {error}."
            ) from error
        raise
    return name, epoch


def _epoch(store: Inspection) -> int | None:
    try:
        found: int | None = store.row("SELECT max(epoch) FROM meta")[0]
    except sqlite3.Error:
        return None
    return found


def _free_name(store: str) -> str:
    number = 1
    while True:
        name = f"{store}.before-repair-{number}"
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        except FileExistsError:
            number += 1
        except OSError as error:
            raise StoreError(store, f"it cannot be copied to {name}: {error.strerror}.") from error
        else:
            return name


def _copy_key(store: str, copy: str) -> None:
    try:
        key = read_key(store)
    except (FileNotFoundError, StoreError):
        return  # the store has none that could be lost
    descriptor = os.open(key_path(copy), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(descriptor)
