"""Take the pictures of the dashboard for docs/images, of a newsroom at work. Run by `make pictures`.

The kinds below are served by `greenroom serve` with this very file. It takes two minutes, for so long do
the plots look back.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from greenroom import Turn, agent

HERE = Path(__file__).parent
SOURCES = HERE.parent / "src"
IMAGES = HERE / "images"
PLOTTED = 110.0
"""Seconds that the newsroom works before it is looked at."""

DESKS = {"culture": 8, "politics": 9, "science": 14, "sports": 6, "weather": 3}
NAMES = [
    "ada",
    "bela",
    "cleo",
    "dina",
    "emil",
    "fritz",
    "greta",
    "hugo",
    "ines",
    "jon",
    "kira",
    "leo",
    "mara",
    "nils",
]
TITLES = ["The tide tables", "A field guide to moss", "Minutes of 4 May", "Letters, 1911", "Night trains"]


@agent(version=3)
async def reader(turn: Turn) -> Any:
    """Reads pages, and tells how far it is."""
    chance = random.Random(turn.run_id)
    pages = turn.input["pages"]
    for page in range(pages):
        turn.emit("reading", {"page": page + 1, "of": pages})
        await asyncio.sleep(chance.uniform(0.15, 1.1))
    if chance.random() < 0.03:
        raise TimeoutError("the archive did not answer within 20 s")
    read = turn.state.setdefault("read", [])
    read.append({"title": turn.input["title"], "pages": pages})
    del read[:-6]
    turn.state["words"] = turn.state.get("words", 0) + 412 * pages
    if turn.inbox:
        turn.state["notes"] = [message.body for message in turn.inbox][-3:]
    return {**read[-1], "summary": "Short, and worth a second look."}


@agent
async def editor(turn: Turn) -> Any:
    """Has everybody below it read something, and waits for that without a slot."""
    below = [info.path for info in await turn.list() if info.path.startswith(f"{turn.path}/")]
    given = enumerate(random.Random(turn.run_id).sample(below, 3))
    runs = [await turn.followup(path, {"title": TITLES[n], "pages": 2}) for n, path in given]
    turn.state["rounds"] = turn.state.get("rounds", 0) + 1
    return {"read": len(await turn.wait(*runs))}


@agent
async def clerk(turn: Turn) -> Any:
    """Quick."""
    turn.state["letters"] = turn.state.get("letters", 0) + 1
    return "answered"


@agent(open_timeout=5)
class Archive:
    """Cannot be opened."""

    async def open(self, info: Any) -> None:  # noqa: ARG002
        raise ConnectionError("no route to archive.example.org")

    async def run(self, turn: Turn) -> Any:  # noqa: ARG002
        return None


class Newsroom:
    """A server with agents, and somebody who keeps them busy."""

    def __init__(self, folder: Path) -> None:
        import httpx

        options = ["--store", str(folder / "agents.db"), "--json", "--port", "0", "--slots", "8"]
        command = [sys.executable, "-m", "greenroom", "serve", __file__, *options, "--residents", "24"]
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
        self.process = subprocess.Popen(
            [*command, "--drain", "0"], stdout=subprocess.PIPE, env=environment, text=True
        )
        assert self.process.stdout is not None
        said = json.loads(self.process.stdout.readline())
        self.url, self.token = said["url"], Path(said["token_file"]).read_text().strip()
        self.api = httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {self.token}"}, timeout=60
        )
        self.readers: list[str] = []
        self.over = threading.Event()
        self._people()
        self.work = threading.Thread(target=self._busy)
        self.work.start()

    def _spawn(self, kind: str, path: str, **more: Any) -> None:
        answer = self.api.post("/api/agents", json={"kind": kind, "path": path, **more})
        answer.raise_for_status()

    def _people(self) -> None:
        for desk, many in DESKS.items():
            self._spawn("editor", f"/newsroom/{desk}")
            for name in NAMES[:many]:
                self.readers.append(f"/newsroom/{desk}/{name}")
                self._spawn(
                    "reader", self.readers[-1], config={"language": "en", "topics": [desk, "people"]}
                )
        self._spawn("Archive", "/newsroom/archive", input="open")
        for n in range(40):
            self._spawn("clerk", f"/mailroom/letter-{n:03}")
        for drawer in ("invoices", "payments", "reminders"):
            for n in range(60):
                self._spawn("clerk", f"/billing/{drawer}/{2_000 + n}")

    def _busy(self) -> None:
        chance = random.Random(4)
        while not self.over.wait(chance.expovariate(7)):
            what = chance.random()
            reader = chance.choice(self.readers)
            if what < 0.62:
                given = {"title": chance.choice(TITLES), "pages": chance.randint(1, 4)}
                self.api.post(f"/api/agents{reader}/runs", json={"input": given})
            elif what < 0.92:
                self.api.post(
                    f"/api/agents/mailroom/letter-{chance.randrange(40):03}/runs", json={"input": 1}
                )
            elif what < 0.97:
                self.api.post(
                    f"/api/agents/newsroom/{chance.choice(list(DESKS))}/runs", json={"input": "go"}
                )
            else:
                self.api.post(f"/api/agents{reader}/messages", json={"body": "please look at page 7 again"})

    def close(self) -> None:
        """Everybody goes home."""
        self.over.set()
        self.work.join()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def photograph(newsroom: Newsroom) -> None:
    """Look at it in light, in dark and on a phone."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

        def visit(scheme: str, width: int, height: int, **more: Any) -> Any:
            size: Any = {"width": width, "height": height}
            context = chromium.new_context(
                color_scheme=scheme, viewport=size, device_scale_factor=2, **more
            )  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(f"{newsroom.url}/#token={newsroom.token}")
            page.locator("#link[data-state=live]").wait_for()
            return page

        def shoot(page: Any, name: str) -> None:
            page.wait_for_timeout(2_500)
            page.screenshot(path=IMAGES / f"{name}.png")
            with Image.open(IMAGES / f"{name}.png") as picture:
                few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            few.save(IMAGES / f"{name}.png", optimize=True)

        def look_at(page: Any, path: str) -> None:
            page.evaluate("path => { location.hash = '#' + path }", path)
            run = page.locator(f"[data-agent='{path}'] li[data-status=completed] .run-head")
            run.first.wait_for()
            run.first.click()

        light = visit("light", 1280, 800)
        for path in ("/newsroom", "/newsroom/science"):
            light.locator(f".line[data-path='{path}'] .twist").click()
            light.locator(f".line[data-path='{path}'][aria-expanded=true]").wait_for()
        time.sleep(PLOTTED)
        shoot(light, "dashboard-light")
        dark = visit("dark", 1280, 800)
        look_at(dark, "/newsroom/science/ada")
        shoot(dark, "dashboard-agent-dark")
        phone = visit("light", 390, 780, has_touch=True, is_mobile=True)
        shoot(phone, "dashboard-phone")
        look_at(phone, "/newsroom/science/bela")
        shoot(phone, "dashboard-phone-agent")
        chromium.close()


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        newsroom = Newsroom(Path(folder))
        try:
            photograph(newsroom)
        finally:
            newsroom.close()


if __name__ == "__main__":
    main()
