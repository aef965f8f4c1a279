"""Reports as one table: for people by rich, for the README as Markdown."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .report import BY_HAND, Peers, Report, Row, best_peer, factor, number, short_of

COLUMNS = ("workload", "unit", "ours", "floor", "ratio", "target", "best peer", "ahead of it")
WIDTH = 140


def table(reports: Sequence[Report], peers: Peers) -> Table:
    """All rows of all reports, a section each."""
    made = Table(title_justify="left")
    for name in COLUMNS:
        made.add_column(name, justify="left" if name in ("workload", "unit", "best peer") else "right")
    for report in reports:
        made.add_section()
        made.add_row(Text(report.question, style="bold"), *[""] * (len(COLUMNS) - 1))
        for row in report.rows:
            cells = _cells(report, row, peers)
            made.add_row(f"  {cells[0]}", *cells[1:], style=_style(report, row, peers))
    return made


def show(made: Table) -> None:
    """Print it, wide enough where the reader is a file."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(made)


def markdown(reports: Iterable[Report], peers: Peers) -> str:
    """The same as Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "--:|" * 4 + "---|--:|"]
    for report in reports:
        lines.append(f"| **{report.question}** |" + " |" * (len(COLUMNS) - 1))
        lines += ["| " + " | ".join(_cells(report, row, peers)) + " |" for row in report.rows]
    return "\n".join(lines)


def _cells(report: Report, row: Row, peers: Peers) -> list[str]:
    theirs = peers.get(f"{report.question}/{row.workload}", {})
    best = best_peer(row, theirs)
    ahead = factor(row, best[1]) if best else None
    floor = "-"
    if row.floor is not None:
        name = "" if row.floor_name == BY_HAND else f" ({row.floor_name})"
        floor = number(row.floor.median) + name
    mark = {True: " ✓", False: " ✗", None: ""}[row.reached]
    target = f"{row.target}{mark}" if row.target else ""
    for name, (wanted, found) in short_of(row, theirs).items():
        target += f" {name}: x{number(wanted)} ✗ ({number(found)})"
    return [
        row.workload,
        row.unit,
        number(row.ours.median),
        floor,
        number(row.ratio),
        target.strip() or "-",
        f"{number(best[1].value)} ({best[0]})" if best else "-",
        "-" if ahead is None else f"x {number(ahead)}",
    ]


def _style(report: Report, row: Row, peers: Peers) -> str:
    theirs = peers.get(f"{report.question}/{row.workload}", {})
    if row.reached is False or short_of(row, theirs):
        return "red"
    return "green" if row.reached else ""
