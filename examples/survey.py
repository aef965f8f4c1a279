"""Agents survey a tree of Python source: by default the standard library that runs them.

    python examples/survey.py [DIRECTORY] [--store survey.db] [--residents 64] [--json]

One root agent, under it one agent per package, under each of those one per module: two thousand
agents for the standard library, of which 64 are in memory at a time and four at work. What they
do:

1. The root spawns the packages, and each package its modules. From here on everybody can be
   written to, whether in memory or not.
2. Each module parses its file, sends a message to the agent of *every module it imports*, and
   one with its numbers to its package.
3. Each package adds up what its modules wrote to it.
4. The root asks every module who imports it, which the module knows from its inbox, and reports.

Between these steps the root neither waits nor need be in memory: `turn.after` starts its next
turn when the last answer is in. Stop the survey in any way, also with `kill -9`, and start it
again with the same store: it goes on, and its report is the same to the last number.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import source_facts as source
from survey_screen import Progress, show_report

from greenroom import (
    AgentNotFound,
    AgentRef,
    GreenroomError,
    PathTaken,
    Runtime,
    SyncTurn,
    Turn,
    agent,
)

KILLS = 1000  # how often a turn may be cut off by the end of its process and begun again


@agent(attempts=KILLS)
async def survey(turn: Turn) -> dict[str, Any] | None:
    """The root. Its input is a directory; the turn that ends the survey returns the report."""
    match turn.input:
        case {"next": "scan"}:
            turn.state["modules"] = [path for paths in answers(turn) for path in paths]
            await ask(turn, turn.state["modules"], "scan", then="add up")
        case {"next": "add up"}:
            answers(turn)
            await ask(turn, turn.state["packages"], "add up", then="ask who imports")
        case {"next": "ask who imports"}:
            turn.state["sums"] = dict(answers(turn))
            await ask(turn, turn.state["modules"], "who imports you?", then="report")
        case {"next": "report"}:
            return source.make_report(turn.state["sums"], importers=dict(answers(turn)))
        case {"directory": str(directory), "limit": limit}:
            await begin(turn, directory, limit)
        case str(directory):
            await begin(turn, directory, limit=None)
        case other:
            raise TypeError(f"a survey's input is a directory, not {other!r}")
    return None


async def begin(turn: Turn, directory: str, limit: int | None) -> None:
    """Spawn the packages and have them spawn their modules."""
    tree = (os.path.realpath(directory), limit)
    packages = {found.package for found in source.find_modules(*tree).values()}
    if not packages:
        raise ValueError(f"no Python modules in {directory}")
    paths = []
    for name in sorted(packages):
        ref = await turn.spawn(package, segment(name), config={"tree": tree, "name": name})
        paths.append(ref.path)
    turn.state["packages"] = paths
    await ask(turn, paths, "spawn your modules", then="scan")


async def ask(turn: Turn, paths: Iterable[str], question: str, *, then: str) -> None:
    """Ask each of them. The root's next turn starts when all have answered."""
    runs = [await turn.followup(path, question) for path in paths]
    await turn.after(*runs, input={"next": then})


def answers(turn: Turn) -> list[Any]:
    """What those who were asked returned, in the order they were asked."""
    for outcome in turn.results:
        if outcome.status != "completed":
            raise RuntimeError(f"no answer from {outcome.path}: {outcome.status} {outcome.error}")
    return [outcome.result for outcome in turn.results]


@agent(attempts=KILLS)
async def package(turn: Turn) -> list[str] | tuple[str, dict[str, Any]]:
    """Spawns its modules and says where they are; later adds up what they wrote to it."""
    tree, name = turn.config["tree"], turn.config["name"]
    if turn.input == "spawn your modules":
        paths = []
        for found in source.find_modules(*tree).values():
            if found.package == name:
                config = {"tree": tree, "module": tuple(found)}
                ref = await turn.spawn(module, segment(found.stem), config=config)
                paths.append(ref.path)
        return paths
    counts: Counter[str] = Counter()
    functions: list[dict[str, Any]] = []
    unreadable: dict[str, str] = {}
    for message in turn.inbox:
        counts.update(message.body["counts"])
        functions += message.body["functions"]
        unreadable |= message.body["unreadable"]
    functions = source.most_complicated(functions)
    return name, {"counts": dict(counts), "functions": functions, "unreadable": unreadable}


@agent(attempts=KILLS)
def module(turn: SyncTurn) -> tuple[str, list[tuple[str, bool]]] | None:
    """Reads its file and writes to those it imports; later says who wrote to it.

    Not `async`: parsing keeps a processor busy, so these turns run on threads.
    """
    me = source.Module(*turn.config["module"])
    # In every turn: who imports this module may have been scanned before it.
    importers = turn.state.setdefault("importers", [])
    importers += [message.body for message in turn.inbox]
    if turn.input == "who imports you?":
        return me.name, importers

    facts = source.analyse_file(me.file)
    known = source.find_modules(*turn.config["tree"])
    parent = PurePosixPath(turn.path).parent
    for name, lazy in source.imported(facts.imports, me, known).items():
        other = known[name]
        with suppress(AgentNotFound):  # a file that is newer than the survey
            path = parent.parent / segment(other.package) / segment(other.stem)
            turn.send(str(path), (me.name, lazy))
    numbers = {
        "counts": facts.counts(),
        "functions": source.most_complicated(source.function_rows(me.name, facts)),
        "unreadable": {me.name: facts.unreadable} if facts.unreadable else {},
    }
    turn.send(str(parent), numbers)
    return None


def segment(name: str) -> str:
    """A module's or package's name as one segment of a path; different names stay different.

    `io` is itself, `email.mime` is `email--mime`, `Xy` is `-xy` and then, as a segment begins
    with a letter or digit, `0-xy`; `__init__` is `0__init__` and the nameless top is `0`.
    """

    def coded(character: re.Match[str]) -> str:
        found = character[0]
        if found == ".":
            return "--"
        return f"-{found.lower()}" if "A" <= found <= "Z" else f"-0{ord(found):x}-"

    plain = re.sub("[^a-z0-9_]", coded, name)
    if not re.match("[a-z1-9]", plain):
        plain = f"0{plain}"
    if len(plain) > 64:  # "-1" stands in no name above
        plain = f"0-1{hashlib.blake2b(name.encode(), digest_size=24).hexdigest()}"
    return plain


class SurveyError(Exception):
    """The root ended without a report."""


def conduct(runtime: Runtime, path: str, asked: dict[str, Any] | str, progress: Progress) -> dict[str, Any]:
    """The report of the survey at `path`, which is started unless the store has it already."""
    root = start_or_find(runtime, path, asked)
    events: Counter[str] = Counter()
    threading.Thread(target=count_events, args=(runtime, path, events), daemon=True).start()
    with progress:
        while (report := report_of(root)) is None:
            progress.show(runtime.stats(), runs=events["run.completed"])
            time.sleep(0.2)
        progress.end(runtime.stats())
    return report


def start_or_find(runtime: Runtime, path: str, asked: dict[str, Any] | str) -> AgentRef:
    try:
        return runtime.spawn(survey, path, input=asked)
    except PathTaken:
        root = runtime.agent(path)
    before = root.info().last_outcome
    if before is None or before.status == "completed":
        return root  # it goes on by itself
    root.delete()  # a run that failed stays so: begin anew
    return runtime.spawn(survey, path, input=asked)


def report_of(root: AgentRef) -> dict[str, Any] | None:
    """The report, or None while the root is between two of its steps."""
    outcome = root.info().last_outcome
    if outcome is None:
        return None
    if outcome.status != "completed":
        raise SurveyError(f"{outcome.status}: {outcome.error}")
    return outcome.result if isinstance(outcome.result, dict) else None


def count_events(runtime: Runtime, path: str, events: Counter[str]) -> None:
    with suppress(GreenroomError):  # the runtime is closed
        for event in runtime.events(path):
            events[event.type] += 1


def main(arguments: list[str] | None = None) -> int:
    options = command_line().parse_args(arguments)
    asked = {"directory": os.path.realpath(options.directory), "limit": options.limit}
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
    store = options.store or str(caches() / f"survey-{digest}.db")
    progress = Progress()
    try:
        if not source.find_modules(**asked):
            raise SurveyError(f"there are no Python modules in {options.directory}")
        if not options.store:
            caches().mkdir(mode=0o700, parents=True, exist_ok=True)
        progress.say(f"Surveying {asked['directory']}, with the agents in {store}")
        with Runtime(store, slots=options.slots, residents=options.residents) as runtime:
            report = conduct(runtime, f"/survey-{digest}", asked, progress)
    except KeyboardInterrupt:
        progress.say(f"Stopped. The same command goes on from here, with the agents in {store}")
        return 130
    except (GreenroomError, OSError, SurveyError) as error:
        progress.say(f"The survey failed. {error}")
        return 1
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show_report(report)
    if not options.store:  # it was there to go on from, and there is nothing left to do
        for file in Path(store).parent.glob(f"{Path(store).name}*"):
            file.unlink()
    return 0


def caches() -> Path:
    """Where the user keeps what can be made again."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "greenroom"


def command_line() -> argparse.ArgumentParser:
    def number(text: str) -> int:
        if int(text) < 1:
            raise ValueError(text)
        return int(text)

    parser = argparse.ArgumentParser(description="Agents survey a tree of Python source.")
    parser.add_argument(
        "directory",
        nargs="?",
        default=sysconfig.get_path("stdlib"),
        help="where the modules are; default: the standard library of this Python",
    )
    parser.add_argument(
        "--store",
        metavar="FILE",
        help="keep the agents in this file, also after the survey: an unfinished survey goes on "
        "and a finished one is shown again (default: a file in your cache folder, removed when "
        "the survey is finished; :memory: for none)",
    )
    parser.add_argument("--slots", type=number, default=4, help="agents at work (default: 4)")
    parser.add_argument("--residents", type=number, default=64, help="agents in memory (default: 64)")
    parser.add_argument("--limit", type=number, metavar="N", help="survey only the first N modules by name")
    parser.add_argument("--json", action="store_true", help="the whole report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
