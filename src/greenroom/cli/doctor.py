"""`greenroom doctor`: what is wrong with a store, and what can be put right without a loss."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ..errors import GreenroomError
from ..persistence import doctor as examination
from ..persistence.doctor import DoctorReport, Finding, Repair
from ..persistence.doctor.inspection import Progress
from .signals import STOPPED, Stopped, StopSignals
from .text import clock, printable

if TYPE_CHECKING:
    from rich.console import Console

HEALTHY, FINDINGS = 0, 1
WIDTH = 120
"""Columns of a table that goes into a file or a pipe."""
UNITS = ("bytes", "KiB", "MiB", "GiB")
SEVERITY_COLOURS = {"error": "red", "warning": "yellow", "note": "dim"}


class CannotExamine(click.ClickException):
    """There is no store to examine, or it may not be repaired now."""

    exit_code = 3


@click.command(short_help="Examine a store, and repair it without a loss.")
@click.argument("store", metavar="STORE")
@click.option("--repair", is_flag=True, help="Put right what can be without losing anything.")
@click.option(
    "--quick",
    is_flag=True,
    help="Read no values, and hold no index against its table: takes about half the time.",
)
@click.option("--json", "as_json", is_flag=True, help="The report on stdout as one JSON object.")
def doctor(store: str, repair: bool, quick: bool, as_json: bool) -> None:
    """Examine a store: the file, the key, and every promise of greenroom that can be checked at rest.

    STORE is the file that was given to Runtime(…) or --store. It is not changed, also while a runtime
    has it open, which goes on with its work. Nothing that is stored is unpickled, so no code of the
    agents is executed: that their states can be loaded is not checked, that nobody altered them is.

    With --repair the store must not be open anywhere. It is copied to STORE.before-repair-1 first, with its
    key. A repair deletes nothing: rows without a place go into the table lost_found. Damage that cannot be
    repaired without a loss is left as it is, and told.

    \b
    Examples
      greenroom doctor team.db
      greenroom doctor team.db --repair
      greenroom doctor team.db --quick --json | jq .healthy

    \b
    Exit status
      0    there is nothing wrong, or nothing any more
      1    something is wrong; notes alone are nothing wrong
      2    wrong usage
      3    it could not be examined or repaired: no such file, no store, a newer
           greenroom's, or --repair while it is open
      130  stopped by Ctrl-C or SIGTERM

    \b
    With --json stdout gets an object, of a failure with "store" and "error" only:
      store healthy at seconds quick schema owner sizes counts checks
      findings  a list of {check severity what advice repairable}; severity is
                "error", "warning" or "note"
      repair    with --repair only: {steps backup findings}, the findings before it;
                all the rest is as it is after it
    """
    with StopSignals():
        try:
            with _progress(as_json) as progress:
                done: DoctorReport | Repair = (
                    examination.repair(store, quick=quick, progress=progress)
                    if repair
                    else examination.examine(store, quick=quick, progress=progress)
                )
        except GreenroomError as error:
            if as_json:
                click.echo(json.dumps({"store": store, "error": str(error)}))
            raise CannotExamine(str(error)) from error
        except (Stopped, KeyboardInterrupt):
            click.echo("Stopped. What was repaired so far stays so, and nothing is half done.", err=True)
            sys.exit(STOPPED)
        report = done.after if isinstance(done, Repair) else done
        if as_json:
            click.echo(json.dumps(_as_json(done)))
        else:
            _show(done)
        sys.exit(HEALTHY if report.healthy else FINDINGS)


@contextmanager
def _progress(as_json: bool) -> Iterator[Progress]:
    """A line on stderr that says what is being done, if somebody looks at it."""
    if as_json or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # 0.1 s to import

    with Console(stderr=True, highlight=False).status("") as status:
        yield lambda what: status.update(printable(what))


def _as_json(done: DoctorReport | Repair) -> dict[str, Any]:
    report = done.after if isinstance(done, Repair) else done
    told: dict[str, Any] = {"store": report.store, "healthy": report.healthy}
    told |= msgspec.to_builtins(report)
    if isinstance(done, Repair):
        told["repair"] = {
            "steps": list(done.steps),
            "backup": done.backup,
            "findings": msgspec.to_builtins(done.before.findings),
        }
    return told


# For people


def _show(done: DoctorReport | Repair) -> None:
    from rich.console import Console

    console = Console(
        file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH
    )
    report = done.after if isinstance(done, Repair) else done
    _show_facts(console, report)
    if isinstance(done, Repair):
        steps = [printable(step) for step in done.steps] or ["nothing: there was nothing to repair"]
        console.print("\nRepaired:", *steps, sep="\n  - ", soft_wrap=True)
    if report.findings:
        console.print()
        _show_findings(console, report.findings)
    console.print()
    console.print(_verdict(report), soft_wrap=True)


def _show_facts(console: "Console", report: DoctorReport) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in _facts(report):
        table.add_row(name, printable(value))
    console.print(table)


def _facts(report: DoctorReport) -> Iterator[tuple[str, str]]:
    sizes, counts = report.sizes, report.counts
    yield "store", f"{report.store}, schema {report.schema}"
    owner = report.owner
    if owner is None:
        yield "owner", "none: nobody has opened it yet"
    else:
        at = clock(owner.heartbeat)
        yield "owner", f"{owner.said} (last seen {at}, epoch {owner.epoch})" if owner.pid else owner.said
    free = sizes.free_pages * sizes.page
    yield "file", f"{size(sizes.file)}, of it {size(free)} free; log {size(sizes.wal)}"
    if sizes.tables:
        yield (
            "tables",
            ", ".join(f"{name} {size(n)}" for name, n in sizes.tables.items() if n >= sizes.page),
        )
    yield "agents", _numbers(counts.agents)
    yield "runs", _numbers(counts.runs)
    yield "inbox", f"{counts.inbox:,}"
    span = f", numbers {counts.first_event:,} to {counts.last_event:,}" if counts.events else ""
    yield "events", f"{counts.events:,}{span}"
    if not counts.snapshots:
        yield "snapshots", "0"
    for each in counts.snapshots:
        kind = each.kind or "no agent"
        yield "snapshots", f"{each.count:,} of {kind} in {each.codec}, {size(each.bytes)}"
    if counts.set_aside:
        yield "set aside", f"{counts.set_aside:,}, in the table lost_found"


def _numbers(counted: dict[str, int]) -> str:
    parts = [f"{number:,} {status}" for status, number in sorted(counted.items())]
    return ", ".join(parts) or "0"


def size(count: float) -> str:
    """Bytes for people."""
    power = 0
    while count >= 1024 and power < len(UNITS) - 1:
        count /= 1024
        power += 1
    digits = 0 if power == 0 or count >= 100 else 1
    return f"{count:,.{digits}f} {UNITS[power]}"


def _show_findings(console: "Console", findings: tuple[Finding, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    for name in ("", "check", "what is wrong", "what to do"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        table.add_row(
            Text(finding.severity, style=SEVERITY_COLOURS[finding.severity]),
            Text(finding.check, no_wrap=True),
            Text(printable(finding.what)),
            Text(printable(finding.advice)),
        )
    console.print(table)


def _verdict(report: DoctorReport) -> str:
    done = f"{len(report.checks)} checks in {report.seconds:,.1f} s"
    wrong = [finding for finding in report.findings if finding.severity != "note"]
    if not wrong:
        return f"Nothing is wrong: {done}."
    repairable = sum(finding.repairable for finding in wrong)
    can = f"; --repair can put {repairable} of them right" if repairable else ""
    return f"{len(wrong)} {'finding' if len(wrong) == 1 else 'findings'}: {done}{can}."
