"""Where the agents of a command are kept if nobody says where.

A run without `--store` has a store of its own in the user's folder for state, named after what was asked
for: the same command finds it again and goes on, another one does not meet it. When the run has ended it
is removed, so that the command then begins anew, as a script would.
"""

import os
import re
import shutil
import time
from hashlib import blake2b
from pathlib import Path

import click

MEMORY = ":memory:"


def state_folder() -> Path:
    """Where the user's programs keep what should outlast a restart (XDG)."""
    folder = os.environ.get("XDG_STATE_HOME", "")
    base = Path(folder) if os.path.isabs(folder) else Path("~/.local/state").expanduser()
    return base / "greenroom"


def passing_store(file: Path, *asked: str | None) -> Path:
    """The store of a run that was asked for in these words; its folder holds nothing else."""
    words = "\0".join(repr(word) for word in (str(file.resolve()), *asked))
    digest = blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    name = re.sub(r"[^\w-]", "-", file.stem)[:64]
    return state_folder() / "runs" / f"{name}-{digest}" / "agents.db"


def make_room(store: Path) -> None:
    """Make the folder of a passing store, for this user alone."""
    try:
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(
            f"the agents cannot be kept in {store.parent}: {error.strerror}. Say where with --store FILE, "
            f"or keep nothing with --store {MEMORY}."
        ) from error


def put_away(store: Path, *, keep: bool) -> Path:
    """Have a passing store that has served its turn out of the way: removed, or kept; where it is."""
    folder = store.parent
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        return store
    kept = folder.with_name(f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    try:
        folder.rename(kept)
    except OSError:
        return store
    return kept / store.name
