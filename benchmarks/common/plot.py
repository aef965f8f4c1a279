"""One picture per question: a panel for each row, a bar for each contestant, a dot for each round."""

from pathlib import Path
from typing import Any

from .report import OURS, Report, Row, number

COLOURS = {OURS: "#2f7d5b", "floor": "#8a8f98"}
PEER = "#c9a24b"


def draw(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write `question.png` and `question.svg` into the folder, made if it is not there."""
    import matplotlib  # a second that only who wants a picture pays

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = report.question  # the same figures make the same file
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    panels = len(report.rows)
    figure, axes = pyplot.subplots(panels, 1, figsize=(8, 0.6 + 1.25 * panels), squeeze=False)
    for axis, row in zip(axes[:, 0], report.rows, strict=True):
        _panel(axis, row)
    figure.suptitle(report.asks, fontsize=9, wrap=True)
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{report.question}.png", folder / f"{report.question}.svg"
    figure.savefig(made[0], dpi=110, metadata={"Software": None})
    figure.savefig(made[1], metadata={"Date": None})
    pyplot.close(figure)
    return made


def _panel(axis: Any, row: Row) -> None:
    bars = [(OURS, row.ours.median, row.ours.rounds, COLOURS[OURS])]
    if row.floor is not None:
        bars.append((row.floor_name, row.floor.median, row.floor.rounds, COLOURS["floor"]))
    bars += [(name, peer.value, (), PEER) for name, peer in row.peers.items() if peer.value is not None]
    values = [value for _, value, _, _ in bars]
    for place, (_, value, rounds, colour) in enumerate(bars):
        axis.barh(place, value, color=colour, height=0.6)
        axis.plot(rounds, [place] * len(rounds), "|", color="black", markersize=6)
        axis.annotate(
            f" {number(value)}",
            (max([value, *rounds]), place),
            va="center",
            fontsize=7,
            annotation_clip=False,
        )
    if row.target is not None:
        limit = row.target.limit
        if row.target.of == "ratio" and row.floor is not None:
            limit *= row.floor.median
        axis.axvline(limit, color="#b03a2e", linewidth=1, linestyle=":")
        values.append(limit)
    if min(values) > 0 and max(values) / min(values) > 30:
        axis.set_xscale("log")
        axis.set_xlim(left=min(values) / 3)
    axis.margins(x=0.12)
    axis.set_yticks(range(len(bars)), [name for name, _, _, _ in bars], fontsize=7)
    axis.invert_yaxis()
    axis.tick_params(axis="x", labelsize=7)
    axis.set_title(f"{row.workload} ({row.unit}; {row.better} is better)", fontsize=8, loc="left")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
