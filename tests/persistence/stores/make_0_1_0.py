"""Makes the store in `0.1.0`, as it was made once by that version: `python make_0_1_0.py FOLDER`.

Its second process is killed in the middle of its work, so its owner's record, its log and the log's index
are there as a killed process leaves them. It names no host that there is.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import printers

from greenroom import RunFailed, Runtime
from greenroom.persistence import lease
from greenroom.persistence.lease_rules import Process

lease.this_process = lambda: Process("press.example", "of that day", "pid:[1]", os.getpid(), 1)


def until(check: Callable[[], bool]) -> None:
    for _ in range(500):
        if check():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


def first(store: str) -> None:
    with Runtime(store, kinds=printers.KINDS) as runtime:
        plain = runtime.spawn(printers.plain, "/office/plain", config={"paper": "A4", "margins": (1, 2)})
        for page in ("one", "two"):
            plain.followup(page).result()  # run-1-1, run-1-2
        paper = runtime.spawn(printers.paper, "/office/paper", config={"title": "Semantics"})
        paper.followup("page 1", run_id="order-7").result()
        failed = plain.followup("fail", run_id="order 8/failed")
        with suppress(RunFailed):
            failed.result()
        counter = runtime.spawn(printers.in_json, "/office/counter/json")
        counter.followup(3).result()
        counter.followup(4).result()
        raw = runtime.spawn(printers.in_msgpack, "/office/counter/msgpack")
        raw.followup(b"\x00\xff").result()
        broken = runtime.spawn(printers.Unopenable, "/office/broken", config="toner")
        until(lambda: broken.info().status == "failed")
        closed = runtime.spawn(printers.plain, "/office/closed", config="was here")
        closed.followup("last words").result()
        closed.close()
        again = runtime.spawn(printers.plain, "/office/closed", config="is here")
        again.send({"note": "unread"})
        deleted = runtime.spawn(printers.plain, "/office/deleted", config="nobody knows")
        deleted.followup("secret").result()
        deleted.delete()


def second(store: str) -> None:
    runtime = Runtime(store, kinds=printers.KINDS, slots=2).start()
    runtime.spawn(printers.slow, "/office/slow").followup("until it is killed", run_id="cut off")
    for page in ("next", "after that"):  # wait behind it
        runtime.agent("/office/slow").followup(page)
    chief = runtime.spawn(printers.chief, "/office/chief")
    print(chief.followup("until it is killed").result())
    until(lambda: runtime.agent("/office/chief/worker").info().status == "running")
    until(lambda: runtime.agent("/office/slow").info().status == "running")
    copier = sqlite3.connect(store)
    copier.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the kept log is short
    copier.close()
    runtime.agent("/office/plain").send("from outside")
    runtime.agent("/office/closed").followup("waits for a slot", run_id="order-9")
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    store = str(folder / "agents.store")
    if len(sys.argv) > 2:
        second(store)
    else:
        first(store)
        subprocess.run([sys.executable, __file__, str(folder), "second"], check=False)
        print(sorted((path.name, path.stat().st_size) for path in folder.iterdir()))
