"""Draw the life of a session from its table, as docs/lifecycle.svg. Run by `make docs`.

States stand on a circle; an arrow is one or more events that lead from one state to another. Events that
lead back to the same state (news that crossed ours on the way) are left out.
"""

import math
from html import escape
from pathlib import Path

from greenroom.actors.agent.lifecycle import TABLE

SIZE, RADIUS, NODE = 900, 340, 44
HERE = Path(__file__).parent


def draw() -> str:
    """The picture as SVG."""
    states = list(TABLE)
    places = {
        state: (
            SIZE / 2 + RADIUS * math.sin(2 * math.pi * n / len(states)),
            SIZE / 2 - RADIUS * math.cos(2 * math.pi * n / len(states)),
        )
        for n, state in enumerate(states)
    }
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, row in TABLE.items():
        for event, following in row.items():
            if following != state:
                arrows.setdefault((state, following), []).append(event)
    shapes = [_arrow(places[a], places[b], events) for (a, b), events in arrows.items()]
    shapes += [_node(state, *places[state]) for state in states]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" font-family="sans-serif">
<title>The life of a session</title>
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 10 5 0 10z" fill="#666"/></marker></defs>
<rect width="{SIZE}" height="{SIZE}" fill="#fff"/>
{chr(10).join(shapes)}
</svg>
"""


def _node(state: str, x: float, y: float) -> str:
    return (
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{NODE}" fill="#eef4ff" stroke="#336"/>'
        f'<text x="{x:.0f}" y="{y + 5:.0f}" font-size="15" text-anchor="middle">{escape(state)}</text>'
    )


def _arrow(start: tuple[float, float], end: tuple[float, float], events: list[str]) -> str:
    """A curve, bent to its left, so that an arrow and its opposite do not cover each other."""
    (ax, ay), (bx, by) = start, end
    length = math.dist(start, end)
    dx, dy = (bx - ax) / length, (by - ay) / length
    ax, ay, bx, by = ax + dx * NODE, ay + dy * NODE, bx - dx * NODE, by - dy * NODE
    cx, cy = (ax + bx) / 2 + dy * 34, (ay + by) / 2 - dx * 34
    lx, ly = (ax + bx) / 2 + dy * 22, (ay + by) / 2 - dx * 22
    return (
        f'<path d="M{ax:.0f} {ay:.0f}Q{cx:.0f} {cy:.0f} {bx:.0f} {by:.0f}" fill="none" stroke="#666"'
        f' marker-end="url(#tip)"/><text x="{lx:.0f}" y="{ly:.0f}" font-size="12" fill="#333"'
        f' text-anchor="middle">{escape(", ".join(events))}</text>'
    )


if __name__ == "__main__":
    (HERE / "lifecycle.svg").write_text(draw())
