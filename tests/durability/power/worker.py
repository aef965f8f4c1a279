"""One life of the story's runtime on a disk that is watched.

`python -m durability.power.worker JOB` in `tests/`, with the shim preloaded; JOB is JSON, `Job` below.
What the client asks and is told goes to the file `notes` beside the store, and so into the log of the
disk: what was told before which write is known.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from greenroom import Runtime
from greenroom.persistence import keys, schema, store

from ..crash_steps import story
from ..crash_steps.rest import Promises
from ..crash_steps.steps import Steps, tidy_often

NOTES = "notes"


class Job(Struct):
    """A life. `careful`: half of the calls ask for "power" themselves. `deadly`: the step it dies at."""

    folder: str
    durability: str = "power"
    careful: bool = False
    deadly: int = 0
    sabotage: str | None = None


def read_note(line: bytes) -> tuple[str, str, Any]:
    kind, step, value = json.loads(line)
    return kind, step, value


def read_notes(path: Path) -> list[tuple[str, str, Any]]:
    """The lines in order; one that its process died over counts for nothing."""
    if not path.exists():
        return []
    return [read_note(line) for line in path.read_bytes().split(b"\n")[:-1]]


def main(job: Job) -> None:
    folder = Path(job.folder)
    done = Promises.of(read_notes(folder / NOTES)).told
    notes = os.open(folder / NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(*line: Any) -> None:
        os.write(notes, json.dumps(line).encode() + b"\n")

    tidy_often()
    if job.sabotage:
        SABOTAGE[job.sabotage]()
    Steps(job.deadly, lambda what: note("died", what, None)).watch(job.folder)
    level = story.careful if job.careful else None
    with Runtime(folder / "agents.db", durability=job.durability, **story.OPTIONS) as runtime:
        story.tell(story.Client(runtime, note, done, level))


# Bugs to plant


def normal_instead_of_full() -> None:
    """What is promised to survive a power cut is written as if it need not."""
    store.FULL = 1
    schema.SYNCHRONOUS["power"] = "NORMAL"


def off() -> None:
    """Nothing is ever synced, as if that could only lose the newest."""
    store.FULL = 0
    for level in schema.SYNCHRONOUS:
        schema.SYNCHRONOUS[level] = "OFF"


def key_in_the_air() -> None:
    """The key beside the store is written and not synced."""
    keys._write_key = lambda descriptor: os.close(os.write(descriptor, os.urandom(32)) and descriptor)


SABOTAGE = {
    "normal instead of full": normal_instead_of_full,
    "off": off,
    "key in the air": key_in_the_air,
}


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Job))
