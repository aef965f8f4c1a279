"""A crew of command-line agents reviews a repository: one agent per file, and a chief who reads them all.

    python examples/review.py [FOLDER] [--at-once 4]

Each reviewer is a program of its own, `review_file.py` beside this file: it gets a file's name, prints what
it finds as JSON lines while it looks, and its verdict at the end. Here it needs no network and no model;
put the command line of a coding agent in its place, and nothing else changes. However many files there are,
four programs run at a time, and none is left when this ends.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from greenroom import Runtime, Turn, agent
from greenroom.drivers import Limits, command_agent

PROGRAM = Path(__file__).with_name("review_file.py")


def reviewer(at_once: int) -> Any:
    """The kind of all reviewers: the folder is in each one's config."""
    return command_agent(
        [sys.executable, "-I", "-S", str(PROGRAM)],
        name="reviewer",
        cwd=lambda info: info.config["folder"],
        answer=lambda said: said.get("verdict"),
        limits=Limits(processes=at_once, memory=1 << 30, cpu=60),
        turn_timeout=120.0,
    )


@agent(codec="json")
async def chief(turn: Turn) -> Any:
    """Have each file reviewed by an agent of its own; go on when all of them are done."""
    if turn.results:
        verdicts = [outcome.result for outcome in turn.results if outcome.status == "completed"]
        failed = [
            f"{outcome.path}: {outcome.error}" for outcome in turn.results if outcome.status != "completed"
        ]
        return {"verdicts": verdicts, "failed": failed}
    runs = []
    for number, file in enumerate(turn.input["files"]):
        review = await turn.spawn("reviewer", f"file-{number}", config={"folder": turn.input["folder"]})
        runs.append(await review.followup(file))
    return (await turn.after(*runs, input="report")).run_id


def files_of(folder: Path) -> list[str]:
    """The Python files of a repository, by their names in it."""
    found = (path.relative_to(folder) for path in folder.rglob("*.py"))
    return sorted(str(path) for path in found if not any(part.startswith(".") for part in path.parts))


def review(folder: Path, at_once: int, store: str = ":memory:") -> Any:
    """The verdicts on all files."""
    files = files_of(folder)
    with Runtime(store, slots=2 * at_once, residents=64, kinds=[reviewer(at_once)]) as runtime:
        asked = runtime.spawn(chief, "/review/chief", input={"folder": str(folder), "files": files}).run
        if not files:
            return {"verdicts": [], "failed": []}
        for event in runtime.events("/review", since=0):
            if event.type == "run.progress" and event.data["name"] == "message":
                print(f"  {event.data['data']}", file=sys.stderr)
            if event.path == "/review/chief" and (
                event.type in ("run.failed", "run.interrupted")
                or (event.type == "run.completed" and event.run_id != asked.run_id)
            ):
                break
        return runtime.run(asked.result()).result()


def main() -> None:
    parser = argparse.ArgumentParser(description="Have a repository reviewed, one agent per file.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    parser.add_argument("--at-once", type=int, default=4, help="programs that run at a time")
    options = parser.parse_args()
    report = review(options.folder.resolve(), options.at_once)
    for verdict in sorted(report["verdicts"], key=lambda verdict: (-verdict["remarks"], verdict["file"])):
        print(f"{verdict['remarks']:4} remarks  {verdict['lines']:5} lines  {verdict['file']}")
    for failure in report["failed"]:
        print(f"not reviewed: {failure.splitlines()[0]} … {failure.splitlines()[-1]}")


if __name__ == "__main__":
    main()
