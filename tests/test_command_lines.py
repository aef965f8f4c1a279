"""The command lines of the README and docs keep their word: each is tried as it stands, in order."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"http://(127\.0\.0\.1:\d+)")
DEADLINE = 600.0
"""Seconds after which a command line hangs; nothing takes a tenth of it."""


def lines_of(page: str) -> list[str]:
    """The command lines of a page, in order."""
    blocks = BLOCK.findall((ROOT / page).read_text())
    return [line for block in blocks for line in block.splitlines() if line]


class Reader:
    """Somebody who types what a page says, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen[str] | None = None
        self.address = ""
        self.functions: list[str] = []
        command = folder / "bin" / "greenroom"
        command.parent.mkdir()
        start = "import sys; sys.argv[0] = 'greenroom'; from greenroom.cli import main; main()"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
        command.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def type(self, line: str) -> None:
        """Try a line; what serves stays until the next command of greenroom, or the end of the page."""
        line = line.partition("  #")[0].strip()
        if line.startswith("pip install"):
            self.install(line)
        elif "_GREENROOM_COMPLETE" in line:
            self.complete(line)
        elif line.startswith("greenroom serve") or " --http " in line:
            self.serve(line)
        elif re.match(r"\w+\(\) {", line):
            self.functions.append(line)
        else:
            if line.startswith("greenroom"):
                self.leave()  # what serves has the store for itself
            self.execute(line)

    def execute(self, line: str) -> None:
        """One line ends well, and prints no error."""
        if self.address:
            line = re.sub(r"127\.0\.0\.1:\d+", self.address, line)
        script = "\n".join(["set -o pipefail", *self.functions, line])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert "urn:greenroom:problem" not in done.stdout, f"{line}\n{done.stdout}"

    def serve(self, line: str) -> None:
        """A server says where it is; it takes a port that is free."""
        self.leave()
        line = re.sub(r"(127\.0\.0\.1:)\d+", r"\g<1>0", line)
        if line.startswith("greenroom serve"):
            line += " --port 0"
        self.server = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.server.stdout is not None
        said = ""
        while not (found := ADDRESS.search(said)):
            part = self.server.stdout.readline()
            assert part, f"{line}\n{said}"
            said += part
        self.address = found[1]

    def leave(self) -> None:
        """What serves ends well when it is told to."""
        if self.server is None:
            return
        server, self.server = self.server, None
        server.send_signal(signal.SIGTERM)
        said, _ = server.communicate(timeout=DEADLINE)
        assert server.returncode == 0, said

    def install(self, line: str) -> None:
        """What is to be installed is an extra that there is."""
        settings = ConfigParser()
        settings.read(ROOT / "setup.cfg")
        extras = re.findall(r"\.\[(\w+)\]", line)
        assert set(extras) <= set(settings["options.extras_require"]), line

    def complete(self, line: str) -> None:
        """The completion of a shell is printed; the shell itself need not be here."""
        variable = re.search(r"(_GREENROOM_COMPLETE)=(\w+_source) greenroom", line)
        assert variable, line
        if variable[2] == "bash_source" or shutil.which(variable[2].partition("_")[0]):
            self.execute(f'test -n "$({variable[0]})"')


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    if reader.server is not None:
        reader.server.kill()
        reader.server.communicate()


def prepare(reader: Reader) -> None:
    """What the README has its readers do before: the first program, and a team."""
    programs = PROGRAM.findall((ROOT / "README.md").read_text())
    (reader.folder / "first.py").write_text(programs[0])
    (reader.folder / "team.py").write_text(next(text for text in programs if "async def chief" in text))
    reader.execute(f"{sys.executable} first.py")


PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md") if lines_of(str(page)))


def test_the_command_lines_of_the_readme_work_in_order(reader: Reader) -> None:
    prepare(reader)
    for line in lines_of("README.md"):
        reader.type(line)
    reader.leave()


@pytest.mark.parametrize("page", PAGES)
def test_the_command_lines_of_a_page_work_in_order(page: str, reader: Reader) -> None:
    prepare(reader)
    for line in lines_of("README.md"):
        if re.search(r"\brun\b|^echo", line):
            reader.type(line)
    for line in lines_of(page):
        reader.type(line)
    reader.leave()
