"""How a run is getting on, told as lines: for people on stderr, for machines as JSON on stdout.

`screen.Screen` is the third way, for people at a terminal. All three are told the same things, in this
order: `began`, `show` now and then, `close`, `ended`; and `say` in between.
"""

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import asdict

from ..actors.models import Event
from ..borders import shown as as_text
from .text import clock, printable, tell, write

if TYPE_CHECKING:
    from .watch import Moment  # which brings the runtime

DATA = 60
"""Characters of an event's data that are shown."""


class Beginning(Struct, frozen=True):
    """The work, its place, and whether it was under way already."""

    kind: str
    path: str
    store: str
    resumed: bool
    text: str  # the same, for people


class Ending(Struct, frozen=True):
    """How a command on a run ended. `status` is an outcome's, "stopped" or "error"."""

    status: str
    result: Any = None
    error: str | None = None
    path: str | None = None
    run_id: str | None = None


class Lines:
    """Plain lines on stderr, for people who read them later."""

    every = 5.0
    """Seconds between two calls of `show`."""
    first = 5.0
    """Seconds until the first."""

    def __init__(self) -> None:
        self._out = sys.stdout  # as it is before the agents' own output is sent elsewhere

    def began(self, beginning: Beginning) -> None:
        """The run is accepted."""
        self.say(beginning.text)

    def say(self, text: str) -> None:
        """Tell people."""
        with suppress(OSError, ValueError):  # nobody is there any more: no reason to stop
            tell(text, err=True)

    def show(self, moment: "Moment", note: str | None) -> None:
        """Tell how it stands; `note` says what it waits for, if it does nothing."""
        self.say(summary(moment) + (f"; {note}" if note else ""))

    def close(self) -> None:
        """The work is over, or was stopped."""

    def ended(self, ending: Ending, moment: "Moment | None") -> None:
        """Tell how it ended; the result goes to stdout, an error is told by who ends the program."""
        if moment is not None:
            self.say(f"{ending.status}: {summary(moment)}")
        if ending.status == "completed":
            result = ending.result
            write(self._out, result if isinstance(result, str) else shown(result))


class JsonLines(Lines):
    """An object a line on stdout, the last of which is the result; nothing on stderr but errors."""

    every = 1.0
    first = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._told = 0  # the number of the last event that was told

    def _put(self, type: str, **fields: Any) -> None:
        line = json.dumps({"type": type, **fields})
        write(self._out, line)

    def began(self, beginning: Beginning) -> None:
        fields = asdict(beginning)
        del fields["text"]
        self._put("started", **fields)

    def say(self, text: str) -> None:
        pass

    def show(self, moment: "Moment", note: str | None) -> None:
        new = [event for event in moment.newest if event.seq > self._told]
        self._told = new[-1].seq if new else self._told
        events = [asdict(event) for event in new]
        self._put("progress", **numbers(moment), note=note, events=events)

    def ended(self, ending: Ending, moment: "Moment | None") -> None:
        fields = asdict(ending)
        try:
            json.dumps(ending.result, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            fields["result"] = as_text(ending.result, sys.maxsize)
            fields["result_is_repr"] = True
        if moment is not None:
            self.show(moment, None)
        self._put("result", **fields, stats=numbers(moment) if moment else None)


def numbers(moment: "Moment") -> dict[str, Any]:
    """How it stands, for machines."""
    stats = asdict(moment.stats)
    return {
        "seconds": round(moment.seconds, 3),
        **{name: stats[name] for name in STATS},
        "runs": {name: moment.runs.get(name, 0) for name in ("completed", "failed", "interrupted")},
        "runs_per_second": round(moment.per_second, 1),
    }


STATS = ("agents", "resident", "running", "queued", "slots", "residents", "evictions", "reloads", "commits")


def summary(moment: "Moment") -> str:
    """How it stands, in one line for people."""
    stats = moment.stats
    return (
        f"agents: {stats.agents:,} known, {stats.resident:,} resident, {stats.running:,} running; "
        f"runs: {stats.queued:,} waiting, {moment.ended:,} ended, {moment.per_second:,.0f} per second; "
        f"{stats.evictions:,} evictions, {stats.reloads:,} reloads; {moment.seconds:.1f} s"
    )


def describe(event: Event, *, whole: bool = False) -> str:
    """An event in one line for people; what agents put in it can do nothing to a terminal.

    With `whole` the day is told as well, and an error as far as the line of code that raised it.
    """
    at = clock(event.at, "%Y-%m-%d %H:%M:%S" if whole else "%H:%M:%S")
    data = " ".join(f"{name}={value}" for name, value in event.data.items())
    if len(data) > DATA and not (whole and "error" in event.data):
        data = data[: DATA - 1] + "…"
    return printable(f"{at} {event.type:<16} {event.path}  {data}".rstrip())


def shown(result: object) -> str:
    """A value as JSON to read, or as Python shows it if JSON cannot hold it."""
    try:
        return json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return as_text(result, sys.maxsize)
