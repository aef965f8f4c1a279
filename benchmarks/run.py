"""All benchmarks, one after the other, as one table; and the results section of README.md.

    python benchmarks/run.py                     # what `make bench` does: some ten minutes
    python benchmarks/run.py turns reload        # only these; the others' results stay as they are
    python benchmarks/run.py --no-measuring      # the table and the README once more, from results/

Each script runs in a process of its own, so that its peak of memory is its own. Its report goes to
results/<question>.json. Its pictures go to results/<question>.png and .svg, which git does not keep. The
figures of peers are read from results/peers.json, if that is there.
"""

import subprocess
import sys
from pathlib import Path

import click
import msgspec
from common.plot import draw
from common.report import Peers, Report
from common.table import markdown, show, table

HERE = Path(__file__).parent
RESULTS, README = HERE / "results", HERE / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
QUESTIONS = (
    "messages",
    "spawn",
    "turns",
    "fanout",
    "io_turns",
    "reload",
    "latency",
    "holds",
    "memory",
    "recovery",
    "startup",
    "http",
)


def measured(question: str, *, quick: bool) -> Report:
    """Run a script. Raises `ClickException` if it found a wrong result."""
    command = [sys.executable, f"bench_{question}.py", "--json"]
    command += ["--quick"] if quick else []
    done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"bench_{question}.py failed: see above")
    return told(done.stdout)


def told(text: str | bytes) -> Report:
    """A report from its JSON."""
    return msgspec.json.decode(text, type=Report)


def kept() -> list[Report]:
    """The reports in results/, in the order of the questions."""
    files = [RESULTS / f"{question}.json" for question in QUESTIONS]
    return [told(file.read_bytes()) for file in files if file.exists()]


def peers() -> Peers:
    """What peers did, as far as it is known."""
    file = RESULTS / "peers.json"
    return msgspec.json.decode(file.read_bytes(), type=Peers) if file.exists() else {}


def section(reports: list[Report], of_peers: Peers) -> str:
    """What stands between the markers of the README."""
    lines = ["Each question's own conditions:", ""]
    for report in reports:
        lines.append(
            f"- **{report.question}**: {report.asks} Commit {report.commit}, `{report.command}`, "
            f"{report.repeats} rounds, seed {report.seed}, {report.seconds:.0f} s, "
            f"peak memory {report.peak_mib} MiB."
        )
        lines += [f"  {row.workload}: {row.note}." for row in report.rows if row.note]
    machines = sorted({str(report.machine) for report in reports})
    commits = sorted({report.commit for report in reports})
    head = f"Measured on {'; '.join(machines)}. Commit {', '.join(commits)}, by `make bench`."
    return "\n".join([head, "", markdown(reports, of_peers), "", *lines])


def written(text: str, results: str) -> str:
    """The README with this as its results."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise click.ClickException(f"{README.name} has lost its markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{results}\n\n{END}{after}"


@click.command(help=__doc__)
@click.argument("questions", nargs=-1, type=click.Choice(QUESTIONS))
@click.option("--quick", is_flag=True, help="Small sizes, and nothing is written.")
@click.option("--no-measuring", is_flag=True, help="From what is in results/.")
def main(*, questions: tuple[str, ...], quick: bool, no_measuring: bool) -> None:
    asked = () if no_measuring else questions or QUESTIONS
    if quick:
        show(table([measured(question, quick=True) for question in asked], peers()))
        return
    RESULTS.mkdir(exist_ok=True)
    for question in asked:
        click.echo(f"bench_{question}.py …", err=True)
        report = measured(question, quick=False)
        text = msgspec.json.format(msgspec.json.encode(report), indent=1)
        (RESULTS / f"{question}.json").write_bytes(text + b"\n")
    reports, of_peers = kept(), peers()
    for report in reports:
        if no_measuring or report.question in asked:
            draw(report, RESULTS)
    show(table(reports, of_peers))
    README.write_text(written(README.read_text(), section(reports, of_peers)))


if __name__ == "__main__":
    main()
