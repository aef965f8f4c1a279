"""How far the tests are, and which have failed: said as it happens, also by `pytest -n`, also into a file.

Dots alone say neither: of a suite that takes a quarter of an hour, a failure is known at the end, and
nothing at all while each process is at a slow test.
"""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

EVERY = 20.0
"""Seconds between two lines that say how far it is."""

SLOWEST = 3
"""Tests under way that are named, the longest first."""


class Progress:
    """What is known of one session; `line` says it. Plain values, but for the reporter."""

    def __init__(self, say: Any) -> None:
        self._say = say
        self.total = self.done = self.failed = 0
        self._begun: dict[str, float] = {}  # when each test that is under way began

    def line(self, now: float) -> str:
        """How far it is."""
        share = 100 * self.done // self.total if self.total else 0
        under_way = sorted(self._begun.items(), key=lambda item: item[1])[:SLOWEST]
        at = ", ".join(f"{nodeid} ({now - begun:.0f} s)" for nodeid, begun in under_way)
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{share}% ({self.done:,} of {self.total:,}{failed}); at: {at or 'none'}"

    # pytest's calls

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.total = len(session.items) or self.total

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        del node
        self.total = len(ids)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._begun[nodeid] = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed += 1
            reason = str(getattr(report.longrepr, "reprcrash", None) or report.longrepr)
            when = "" if report.when == "call" else f" in its {report.when}"
            self._say(f"FAILED{when} {report.nodeid}: {reason.splitlines()[0][:200] if reason else '?'}")
        if report.when == "teardown":
            self.done += 1
            self._begun.pop(report.nodeid, None)


class Ticking:
    """Says the line every so often, also while no test ends."""

    def __init__(self, progress: Progress, say: Any) -> None:
        self._progress, self._say = progress, say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        self._thread.start()

    def pytest_sessionfinish(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            self._say(self._progress.line(time.monotonic()))


def tell_progress(config: pytest.Config) -> None:
    """Have the session say how far it is, unless it is a worker of another one or is told to be silent."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or reporter is None or config.option.verbose < -1:
        return

    # While a test is under way, what goes to stdout is its own, and is captured.
    out = os.fdopen(os.dup(1), "w", errors="backslashreplace")

    def say(text: str) -> None:
        reporter.flush()
        with suppress(OSError, ValueError):  # nobody reads any more
            out.write(f"\n{text}\n")
            out.flush()

    progress = Progress(say)
    config.pluginmanager.register(progress, "greenroom-progress")
    config.pluginmanager.register(Ticking(progress, say), "greenroom-ticking")
