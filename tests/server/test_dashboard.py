"""The dashboard, used in a real browser: Debian's Chromium without a window."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .browsing import Visitor, go, launched, live, picture
from .conftest import DEADLINE, ROOT, Served

pytestmark = pytest.mark.slow

TEAM = Path(__file__).with_name("team.py")
HOSTILE = "<img src=x onerror=alert(1)>"
UNREACHABLE = re.compile(
    r"ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|50[03]"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def stage(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the tests that leave it running; the browser comes first, for it may be missing."""
    served = Served(tmp_path_factory.mktemp("stage") / "agents.db", "--drain", "0", files=(TEAM,))
    yield served
    try:
        assert served.stop() == 0, served.logged()
        assert "Traceback" not in served.logged()
    finally:
        served.kill()


@pytest.fixture
def api(stage: Served) -> httpx.Client:
    return stage.client()


@pytest.fixture
def visit(browser: Any, request: pytest.FixtureRequest) -> Iterator[Callable[[Served], Visitor]]:
    """Visitors; none may have had a complaint. The pages of a test that fails are kept as pictures."""
    visitors: list[Visitor] = []
    failed_before = request.session.testsfailed

    def visit(server: Served) -> Visitor:
        visitors.append(Visitor(browser, server))
        return visitors[-1]

    yield visit
    if request.session.testsfailed > failed_before:
        for n, page in enumerate(page for visitor in visitors for page in visitor.pages):
            picture(page, f"failed-{request.node.name}-{n}")
    complaints = [text for visitor in visitors for text in visitor.leave()]
    assert complaints == []


@pytest.fixture
def visitor(visit: Callable[[Served], Visitor], stage: Served) -> Visitor:
    return visit(stage)


def spawn(api: httpx.Client, *paths: str, kind: str = "told", **more: Any) -> None:
    for path in paths:
        answer = api.post("/api/agents", json={"kind": kind, "path": path, **more})
        assert answer.status_code == 202, answer.text


def line(page: Any, path: str) -> Any:
    """An agent's line in the list on the left."""
    return page.locator(f".line[data-path='{path}']:visible")


def twist(page: Any, path: str) -> None:
    line(page, path).locator(".twist").click()


def test_an_agent_is_spawned_given_work_and_watched(visitor: Visitor, api: httpx.Client) -> None:
    page = visitor.open()
    page.keyboard.press("n")
    form = page.locator("#ask-spawn")
    form.get_by_label("Kind").fill("told")
    form.get_by_label("Path").fill("/watch/a")
    form.get_by_label("First run").fill('{"page": 1}')
    assert "JSON (object)" in form.inner_text()
    form.get_by_role("button", name="Spawn").click()
    page.locator("[data-agent='/watch/a'] [data-status=completed]").wait_for()
    assert line(page, "/watch/a").get_attribute("aria-selected") == "true"
    page.locator(".state", has_text="runs").locator(".j-number", has_text="1").wait_for()

    page.keyboard.press("r")
    page.locator("#ask-text").get_by_label("Input").fill("fail")
    page.keyboard.press("Control+Enter")
    failed = page.locator("[data-agent='/watch/a'] li[data-status=failed]")
    failed.locator(".run-head").click()
    failed.locator("pre.error", has_text="on purpose").wait_for()
    assert failed.locator(".timeline .word").all_inner_texts() == [
        "run accepted",
        "run began",
        "run failed",
    ]

    page.keyboard.press("m")
    page.locator("#ask-text").get_by_label("Message").fill("a word")
    page.locator("#ask-text").get_by_role("button", name="Send").click()
    page.locator(".facts div", has_text="Unread messages 1").wait_for()
    assert api.get("/api/agents/watch/a").json()["inbox"] == 1
    picture(page, "agent")


def test_what_is_refused_is_said_and_can_be_put_right(visitor: Visitor, api: httpx.Client) -> None:
    visitor.expected = re.compile(r"Failed to load resource.*4(22|09)")
    spawn(api, "/taken/a")
    page = visitor.open()
    page.locator("#spawn").click()
    form = page.locator("#ask-spawn")
    form.get_by_label("Kind").fill("told")
    for path, said in (("no path", "a path starts with '/'"), ("/taken/a", "/taken/a")):
        form.get_by_label("Path").fill(path)
        form.get_by_role("button", name="Spawn").click()
        form.locator(".wrong", has_text=said).wait_for()
    form.get_by_label("Path").fill("/taken/b")
    form.get_by_role("button", name="Spawn").click()
    page.locator("[data-agent='/taken/b']").wait_for()


def test_work_is_interrupted_evicted_and_closed_and_close_asks_first(
    visitor: Visitor, api: httpx.Client
) -> None:
    spawn(api, "/stop/a", input="for ever")
    page = visitor.open("/stop/a")
    page.locator(".state-now .chip", has_text="running").wait_for()
    page.locator(".why", has_text="It is at work").wait_for()
    page.keyboard.press("i")
    page.locator("[data-agent] li[data-status=interrupted]").wait_for()
    page.locator(".state-now .chip", has_text="idle").wait_for()
    assert api.get("/api/agents/stop/a").json()["last_outcome"]["status"] == "interrupted"

    page.get_by_role("button", name="Evict").click()
    page.locator(".toast", has_text="is out of memory").wait_for()
    page.locator(".facts", has_text="on disk").wait_for()

    page.keyboard.press("x")
    sure = page.locator("#ask-sure")
    assert "cannot be undone" in sure.inner_text()
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    page.keyboard.press("Enter")
    sure.wait_for(state="hidden")
    assert api.get("/api/agents/stop/a").json()["status"] == "idle"
    page.get_by_role("button", name="Close", exact=True).click()
    sure.get_by_role("button", name="Close for good").click()
    page.locator(".state-now .chip", has_text="closed").wait_for()
    line(page, "/stop/a").wait_for(state="detached")
    assert page.get_by_role("button", name="Run", exact=True).is_disabled()


def test_who_holds_a_slot_and_what_waits_and_why(visitor: Visitor, api: httpx.Client) -> None:
    names = [f"/busy/{n}" for n in range(10)]
    spawn(api, *names, input="for ever")
    page = visitor.open()
    try:
        page.locator(".holding li[data-path]").nth(7).wait_for()
        page.locator(".list .chip", has_text="for a slot").nth(1).wait_for()
        assert page.locator(".cells i.on").count() == 8
        page.get_by_role("button", name="Waiting").click()
        waiting = page.locator(".line[data-look=queued]:visible")
        waiting.nth(1).wait_for()
        assert waiting.count() == 2
        page.get_by_role("button", name="In memory").click()
        page.locator(".line[data-look=running]:visible").nth(7).wait_for()
        waiting_path = next(
            path for path in names if api.get(f"/api/agents{path}").json()["status"] == "queued"
        )
        go(page, waiting_path)
        page.locator(".why", has_text="It waits for a slot").wait_for()
        picture(page, "busy")
    finally:
        for path in names:
            api.post(f"/api/agents{path}/close")
    page.get_by_role("button", name="All", exact=True).click()
    page.keyboard.press("Escape")
    page.get_by_text("Nobody holds a slot.").wait_for()


def test_what_agents_say_is_never_taken_for_html(visitor: Visitor, api: httpx.Client) -> None:
    spawn(
        api, "/odd/one", kind=HOSTILE, input="<p>in</p>", config={"<a>": "<style>*{display:none}</style>"}
    )
    api.post("/api/agents/odd/one/runs", json={"input": "fail"})
    api.post("/api/agents/odd/one/messages", json={"body": "<b>mail</b>"})
    page = visitor.open("/odd/one")
    page.locator("li[data-status=failed] .run-head").click()
    page.locator("pre.error", has_text="<svg onload=alert(5)>").wait_for()
    page.locator("li[data-status=completed] .run-head").click()
    page.locator(".json", has_text="<img src=x onerror=alert(6)>").first.wait_for()
    page.locator("[data-status=completed] .timeline .word", has_text="<i onclick=alert(3)>").wait_for()
    page.locator(".state .j-key", has_text="<b>bold</b>").wait_for()
    page.locator(".state .j-text", has_text="<script>alert(2)</script>").wait_for()
    page.locator(".json", has_text="<style>*{display:none}</style>").wait_for()
    assert HOSTILE in page.locator(".state-now").inner_text()
    page.locator("#search").fill("onerror")
    line(page, "/odd/one").wait_for()
    assert line(page, "/odd/one").locator(".kind").inner_text() == HOSTILE
    made = page.locator(
        "main img, main script, main style, main b b, main i[onclick], main svg[onload], main u, main p p"
    )
    assert made.count() == 0
    page.locator("#search").fill("")
    page.evaluate("location.hash = '#/<img src=x onerror=alert(7)>'")
    page.locator("h2", has_text="Now").wait_for()


def test_text_cannot_be_made_into_html_by_any_script_of_the_page(visitor: Visitor) -> None:
    visitor.expected = re.compile("TrustedHTML|Trusted Type")
    page = visitor.open()
    said = page.evaluate(
        "() => { try { document.body.innerHTML = '<p>'; return 'done' } catch (e) { return e.name } }"
    )
    assert said == "TypeError"


def test_it_can_be_used_without_a_mouse(visitor: Visitor, api: httpx.Client) -> None:
    spawn(api, "/keys/a", "/keys/a/below", "/keys/b", "/keys/c")
    page = visitor.open()
    line(page, "/keys").wait_for()
    order = []
    for _ in range(6):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert order == ["skip", "brand", "spawn", "theme", "help", "search"]
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("keys/")
    line(page, "/keys/b").wait_for()
    page.keyboard.press("Escape")
    line(page, "/keys").wait_for()

    page.locator("#help").focus()
    page.keyboard.press("t")
    assert page.evaluate("document.activeElement.id") == "tree"

    trees = page.locator(".line:visible").evaluate_all("all => all.flatMap(one => one.dataset.path ?? [])")
    page.keyboard.press("Home")
    for _ in range(sorted(trees).index("/keys")):
        page.keyboard.press("ArrowDown")
    page.locator(".line.focused[data-path='/keys']").wait_for()
    active = (
        "document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).dataset.path"
    )
    assert page.evaluate(active) == "/keys"
    page.keyboard.press("ArrowRight")
    line(page, "/keys/a").wait_for()
    assert line(page, "/keys").get_attribute("aria-expanded") == "true"
    assert line(page, "/keys/a").get_attribute("aria-level") == "2"
    steps = [
        ("ArrowRight", "/keys/a"),
        ("ArrowDown", "/keys/b"),
        ("ArrowUp", "/keys/a"),
        ("ArrowLeft", "/keys"),
    ]
    for key, path in steps:
        page.keyboard.press(key)
        page.locator(f".line.focused[data-path='{path}']").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("[data-agent='/keys/a']").wait_for()
    page.keyboard.press("ArrowLeft")
    page.locator(".line.focused[data-path='/keys']").wait_for()
    page.keyboard.press("ArrowLeft")
    line(page, "/keys/a").wait_for(state="detached")

    page.keyboard.press("?")
    page.locator("#show-help[open]").wait_for()
    picture(page, "keys")
    page.keyboard.press("Escape")
    page.locator("#show-help").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.id") == "tree"
    page.keyboard.press("Escape")
    page.locator("h2", has_text="Now").wait_for()


def test_the_page_is_accessible_by_the_rules_of_axe(visitor: Visitor, api: httpx.Client) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    spawn(api, "/axe/a", "/axe/a/b", kind="told", input={"hello": [1, None, True]})
    for scheme in ("light", "dark"):
        page = visitor.open("/axe/a", color_scheme=scheme)
        page.locator("li[data-status=completed] .run-head").click()
        page.locator(".timeline").wait_for()
        found = axe.run(page).response["violations"]
        page.keyboard.press("Escape")
        page.locator("h2", has_text="Now").wait_for()
        found += axe.run(page).response["violations"]
        page.keyboard.press("?")
        page.locator("#show-help[open]").wait_for()
        found += axe.run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_light_and_dark_follow_the_system_until_somebody_chooses(visitor: Visitor) -> None:
    def paper(page: Any) -> Any:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = visitor.open(color_scheme="dark")
    light = visitor.open()
    dark_paper, light_paper = paper(dark), paper(light)
    assert dark_paper != light_paper
    dark.locator("#theme").click()
    assert paper(dark) == light_paper
    dark.reload()
    live(dark)
    assert paper(dark) == light_paper
    picture(light, "now")


def test_on_a_phone_it_is_one_column(visitor: Visitor, api: httpx.Client) -> None:
    spawn(api, "/phone/agent-with-quite-a-long-name-that-needs-some-room", input={"text": "word " * 60})
    page = visitor.open(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)

    def fits() -> bool:
        return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    line(page, "/phone").wait_for()
    assert fits()
    agents, detail = page.locator(".agents").bounding_box(), page.locator(".detail").bounding_box()
    assert detail["y"] >= agents["y"] + agents["height"]
    line(page, "/phone").click()
    line(page, "/phone/agent-with-quite-a-long-name-that-needs-some-room").click()
    page.locator("li[data-status=completed] .run-head").click()
    page.locator(".timeline").wait_for()
    assert not page.locator(".agents").is_visible()
    assert fits()
    assert all(
        box["height"] >= 40
        for box in (one.bounding_box() for one in page.locator(".actions .button").all())
    )
    picture(page, "phone")
    page.get_by_label("Back to what goes on now").click()
    page.locator(".agents").wait_for()


def test_without_a_token_it_asks_for_one_and_keeps_it(visitor: Visitor, stage: Served) -> None:
    visitor.expected = re.compile("Failed to load resource.*401")
    page = visitor.open(token=False)
    page.locator("#token").fill("not-this-one")
    page.keyboard.press("Enter")
    page.get_by_text("The server does not take this token.").wait_for()
    page.locator("#token").fill(stage.token)
    page.keyboard.press("Enter")
    live(page)
    page.reload()
    live(page)
    assert stage.token not in page.url


def test_a_link_with_the_token_leaves_none_in_the_address(visitor: Visitor) -> None:
    page = visitor.open()
    assert "token" not in page.url
    page.go_back()
    assert "token" not in page.url


def test_a_trees_token_shows_that_tree(
    visit: Callable[[Served], Visitor], stage: Served, api: httpx.Client
) -> None:
    spawn(api, "/mine/a", "/theirs/a", input=1)
    token = api.post("/api/tokens", json={"tree": "mine"}).json()["token"]
    visitor = visit(stage)
    visitor.expected = re.compile("Failed to load resource.*40[13]")
    page = visitor.open(token=False)
    page.locator("#token").fill(token)
    page.keyboard.press("Enter")
    live(page)
    twist(page, "/mine")
    line(page, "/mine/a").click()
    page.locator("[data-agent='/mine/a'] [data-status=completed]").wait_for()
    assert line(page, "/theirs").count() == 0
    assert page.get_by_text("In memory", exact=True).locator("visible=true").count() == 1  # the filter


def test_it_goes_on_after_a_restart_of_the_server_without_a_gap(
    serve: Callable[..., Served], visit: Callable[[Served], Visitor]
) -> None:
    server = serve("--drain", "0", files=(TEAM,))
    spawn(server.client(), "/restart/a", input=1)
    visitor = visit(server)
    visitor.expected = UNREACHABLE
    page = visitor.open("/restart/a")
    page.locator("li[data-status=completed]").wait_for()
    assert server.stop() == 0
    page.locator("#link[data-state=waiting]").wait_for()
    picture(page, "no-connection")
    again = serve("--drain", "0", files=(TEAM,), port=server.port)
    api = again.client()
    api.post("/api/agents/restart/a/runs", json={"input": 2}, headers={"idempotency-key": "the-second"})
    spawn(api, "/restart/b")
    live(page)
    page.locator("li[data-run='the-second'][data-status=completed]").wait_for()
    line(page, "/restart/b").wait_for()
    assert page.locator(".runs > li").count() == 2
    api.post("/api/agents/restart/a/runs", json={"input": 3})
    page.locator(".runs > li[data-status=completed]").nth(2).wait_for()


MANY = 10_000
FILL = """
import asyncio, importlib.util, sys
from greenroom import AsyncRuntime
spec = importlib.util.spec_from_file_location("team", sys.argv[1])
team = importlib.util.module_from_spec(spec); spec.loader.exec_module(team)
async def main():
    async with AsyncRuntime(sys.argv[2], slots=1, residents=1, durability="memory", drain=0) as runtime:
        for n in range(int(sys.argv[3])):
            await runtime.spawn(team.told, f"/many/agent-{n:06}")
        await runtime.spawn(team.told, "/few/one")
asyncio.run(main())
"""


def fill(store: Path, many: int) -> None:
    """Make many agents in a process of its own."""
    subprocess.run(
        [sys.executable, "-c", FILL, str(TEAM), str(store), str(many)],
        env={"PYTHONPATH": str(ROOT / "src")},
        check=True,
        timeout=DEADLINE,
    )


def test_ten_thousand_agents_are_listed_searched_and_walked_through(
    serve: Callable[..., Served], visit: Callable[[Served], Visitor], tmp_path: Path
) -> None:
    fill(tmp_path / "agents.db", MANY)
    server = serve("--drain", "0", files=(TEAM,))
    page = visit(server).open()
    page.locator("#counted", has_text="10,001").wait_for()
    twist(page, "/many")
    line(page, "/many/agent-000000").wait_for()
    assert page.locator(".line").count() < 100
    tree = page.locator("#tree")
    tree.focus()
    deadline = time.monotonic() + DEADLINE
    while not line(page, f"/many/agent-{MANY - 1:06}").count():
        page.keyboard.press("End")  # what is in sight is loaded, page by page
        assert time.monotonic() < deadline
    assert page.locator(".line").count() < 100
    assert tree.evaluate("e => e.scrollHeight") > MANY * 30

    page.locator("#search").fill("agent-0012")
    page.locator("#counted", has_text="100 found").wait_for()
    page.locator("#search").press("ArrowDown")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.locator("[data-agent='/many/agent-001299']").wait_for()
    picture(page, "many")

    spawn(server.client(), *(f"/few/new-{n}" for n in range(20)), input=1)
    page.locator("#search").fill("")
    twist(page, "/few")
    line(page, "/few/new-19").wait_for()
