"""Other systems at the workloads of the benchmarks, each in an environment of its own.

    cd benchmarks
    python -m peers.run                            # what `make bench-peers` does
    python -m peers.run --only pykka --only dbos   # the others' results stay as they are
    python -m peers.run --quick                    # does it work? nothing is written

For each peer and workload, greenroom's script and the peer's are prepared, and then do a round each in
turn, every second time backwards: so a ratio is of rounds next to each other, see `common.measure`. What a
script does not have is left empty, and so is a peer that cannot be installed, or a workload that failed.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import click
import msgspec
from common.machine import commit, machine
from common.measure import Rounds, interleaved, ratio, values_of
from common.report import OURS, Peer, Row, factor, number
from common.table import show
from msgspec import Struct
from rich.table import Table
from run import README, RESULTS, kept, section, written

from peers.child import BENCHMARKS, PREPARING, Child, Failed, last_line
from peers.contest import ROWS
from peers.environment import NotInstalled, starting

LONG = 8.0
"""Seconds: what takes longer for one round of both is not repeated."""

ONCE = ("memory",)
"""Workloads of which a process has one round only."""

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"


class Recipe(Struct, frozen=True):
    """How a peer is asked: its script, and as which variant."""

    script: str
    variant: str = ""


PEERS = {
    "pykka": Recipe("pykka"),
    "simpleSystemBase": Recipe("thespian", "simpleSystemBase"),
    "multiprocTCPBase": Recipe("thespian", "multiprocTCPBase"),
    "multiprocQueueBase": Recipe("thespian", "multiprocQueueBase"),
    "autogen-core": Recipe("autogen_core"),
    "xoscar": Recipe("xoscar"),
    "langgraph": Recipe("langgraph"),
    "dbos": Recipe("dbos"),
    "ray": Recipe("ray"),
    "erlang": Recipe("erlang"),
}


class Told(Peer, frozen=True):
    """What results/peers.json has of a peer at a workload: more than the table needs.

    `ours` is our own figure of the same rounds, `load` the machine's, as an average of the minute before.
    """

    ours: float | None = None
    rounds: int = 0
    version: str = ""
    commit: str = ""
    load: float = 0.0


Results = dict[str, dict[str, Told]]
"""By `question/workload`, then by the peer's name; as `common.report.Peers`, and read as that."""


def command_of(recipe: Recipe, start: Sequence[str], *, quick: bool) -> list[str]:
    """How a script is started, without the workload."""
    words = [*start, *(["--as", recipe.variant] if recipe.variant else [])]
    return [*words, "--quick"] if quick else words


def workloads_of(peer: str, command: Sequence[str]) -> list[str]:
    """What a script has, in the table's order. Raises `Failed`."""
    try:
        done = subprocess.run(
            [*command, "--list"],
            cwd=BENCHMARKS,
            capture_output=True,
            text=True,
            check=True,
            timeout=PREPARING,
        )
        notes = msgspec.json.decode(done.stdout, type=dict[str, str])
    except subprocess.CalledProcessError as error:
        raise Failed(peer, f"it ended: {last_line(error.stderr)}") from error
    except (OSError, subprocess.TimeoutExpired, msgspec.MsgspecError) as error:
        raise Failed(peer, f"it does not say what it does: {error}") from error
    return [name for name in ROWS if name in notes]


async def compete(
    peer: str, workload: str, ours: Sequence[str], theirs: Sequence[str], repeats: int
) -> dict[str, Told]:
    """Both at one workload: what the peer did, by row. Raises `Failed` if that was ours."""
    load = round(os.getloadavg()[0], 1)
    about = Told(None, commit=commit(), load=load)
    async with Child(OURS, workload, *ours) as us, Child(peer, workload, *theirs) as them:
        try:
            await _started(us, them)
            rounds = await _rounds({OURS: us, peer: them}, 1 if workload in ONCE else repeats)
        except Failed as failure:
            if failure.who == OURS:
                raise
            failed = msgspec.structs.replace(about, note=f"failed: {failure}", version=them.hello.version)
            return dict.fromkeys(ROWS[workload], failed)
    about = msgspec.structs.replace(about, note=them.hello.note, version=them.hello.version)
    return {row: compared(rounds, peer, row, about) for row in ROWS[workload]}


async def _started(*children: Child) -> None:
    # All are waited for, as one that is still being started cannot be ended.
    for failure in await asyncio.gather(*(child.start() for child in children), return_exceptions=True):
        if failure is not None:
            raise failure


async def _rounds(children: dict[str, Child], repeats: int) -> Rounds:
    contestants = {name: child.round for name, child in children.items()}
    begun = time.perf_counter()
    first = await interleaved(contestants, 1, warm_up=0)
    if repeats == 1 or time.perf_counter() - begun > LONG:
        return first
    return await interleaved(contestants, repeats, warm_up=0)


def compared(rounds: Rounds, peer: str, row: str, about: Told) -> Told:
    """`about`, with what the rounds came to."""
    ours, theirs = values_of(rounds[OURS], row), values_of(rounds[peer], row)
    return msgspec.structs.replace(
        about,
        value=statistics.median(theirs),
        ratio=ratio(ours, theirs) if all(theirs) else None,
        ours=statistics.median(ours),
        rounds=len(theirs),
    )


def merged(known: Results, peer: str, found: dict[str, Told]) -> Results:
    """All results, with these as the only ones of that peer, in the table's order."""
    order = [row for rows in ROWS.values() for row in rows]
    names = list(PEERS)
    made: Results = {}
    for row in order:
        peers = {name: told for name, told in known.get(row, {}).items() if name != peer}
        if row in found:
            peers[peer] = found[row]
        if peers:
            made[row] = {name: peers[name] for name in names if name in peers}
    return made


def shown(results: Results, rows: dict[str, Row]) -> Table:
    """For people: a line for each peer at each workload."""
    made = Table()
    for name in ("workload", "unit", "peer", "theirs", "ours", "ahead"):
        made.add_column(name, justify="right" if name in ("theirs", "ours", "ahead") else "left")
    for row, peers in results.items():
        made.add_section()
        for name, told in peers.items():
            unit = rows[row].unit if row in rows else ""
            made.add_row(row, unit, name, number(told.value), number(told.ours), ahead(told, rows.get(row)))
    return made


def ahead(told: Told, row: Row | None) -> str:
    """How many times better ours is."""
    found = None if row is None or told.value is None else factor(row, told)
    return "-" if found is None else f"x {number(found)}"


def markdown(results: Results, rows: dict[str, Row]) -> str:
    """For the README: a line a workload, a column a peer, and what each of them was told to do."""
    names = [name for name in PEERS if any(name in peers for peers in results.values())]
    lines = [f"| workload | unit | {' | '.join(names)} |", "|---|---|" + "--:|" * len(names)]
    for row, peers in results.items():
        cells = [
            f"{number(peers[name].value)} ({ahead(peers[name], rows.get(row))})"
            if name in peers and peers[name].value is not None
            else "-"
            for name in names
        ]
        unit = rows[row].unit if row in rows else ""
        lines.append(f"| {row} | {unit} | {' | '.join(cells)} |")
    told = [each for peers in results.values() for each in peers.values()]
    versions = sorted({each.version for each in told if each.version})
    loads = [each.load for each in told]
    failed = [
        f"- {row}, {name}: {each.note}."
        for row, peers in results.items()
        for name, each in peers.items()
        if each.value is None
    ]
    head = (
        f"Measured on {machine()}, at a load of {min(loads):g} to {max(loads):g}. "
        f"Commit {', '.join(sorted({each.commit for each in told}))}, by `make bench-peers`. "
        f"{', '.join(versions)}."
    )
    return "\n".join([head, "", *lines, *([""] if failed else []), *failed])


def in_readme(text: str, peers: str) -> str:
    """The README with this between the peers' markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise click.ClickException(f"{README.name} has lost its markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{peers}\n\n{END}{after}"


def known() -> Results:
    """What results/peers.json has."""
    file = RESULTS / "peers.json"
    return msgspec.json.decode(file.read_bytes(), type=Results) if file.exists() else {}


def write(results: Results, rows: dict[str, Row]) -> None:
    """The file, and both tables of the README."""
    RESULTS.mkdir(exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(results), indent=1)
    (RESULTS / "peers.json").write_bytes(text + b"\n")
    readme = in_readme(README.read_text(), markdown(results, rows))
    README.write_text(written(readme, section(kept(), dict(results))))


def measured(peer: str, *, quick: bool, repeats: int) -> dict[str, Told]:
    """All that a peer does. Raises `NotInstalled`; `Failed` for what is not its fault, or all of it is."""
    recipe = PEERS[peer]
    ours = command_of(Recipe("ours"), [sys.executable, "-m", "peers.ours"], quick=quick)
    theirs = command_of(recipe, starting(recipe.script), quick=quick)
    found: dict[str, Told] = {}
    for workload in workloads_of(peer, theirs):
        click.echo(f"{peer}: {workload} …", err=True)
        found |= asyncio.run(compete(peer, workload, ours, theirs, repeats))
    return found


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice(list(PEERS)), help="Only this peer, or these.")
@click.option("--quick", is_flag=True, help="Small sizes, one round, and nothing is written.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Rounds of each.")
def main(*, only: tuple[str, ...], quick: bool, repeats: int) -> None:
    rows = {f"{report.question}/{row.workload}": row for report in kept() for row in report.rows}
    results: Results = {} if quick else known()
    for peer in only or PEERS:
        try:
            found = measured(peer, quick=quick, repeats=1 if quick else repeats)
        except NotInstalled as error:
            click.echo(f"{peer} is left out, as it cannot be installed: {error}", err=True)
            found = {}
        except Failed as failure:
            if failure.who == OURS:
                raise click.ClickException(f"greenroom's own script failed: {failure}") from failure
            click.echo(f"{peer} is left out: {failure}", err=True)
            found = {}
        for row, told in found.items():
            if told.value is None:
                click.echo(f"{peer}, {row}: {told.note}", err=True)
        results = merged(results, peer, found)
        if not quick:
            write(results, rows)  # after each: hours of machines are not to be lost to the last peer
    show(shown(results, rows))


if __name__ == "__main__":
    main()
