"""The dashboard's files, without a browser: what must never stand in them, and how they are served."""

import re
from pathlib import Path

import httpx
import pytest

from greenroom.server.assets import CONTENT_SECURITY_POLICY, read_assets

from .conftest import ROOT

FOLDER = ROOT / "src/greenroom/server/dashboard"
FILES = sorted(FOLDER.iterdir())

MAKES_HTML = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc"
    r"|setHTML|\beval\(|new Function|javascript:"
)
ELSEWHERE = re.compile(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", re.IGNORECASE)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_makes_html_of_text_and_nothing_comes_from_elsewhere(file: Path) -> None:
    text = file.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not MAKES_HTML.search(text)
    assert not ELSEWHERE.search(text)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=\"", text), (
        "inline: the policy forbids it"
    )


def test_every_module_that_is_imported_is_there_and_every_one_that_is_there_is_imported() -> None:
    scripts = {file.name: file.read_text() for file in FILES if file.suffix == ".js"}
    imported = {name for text in scripts.values() for name in re.findall(r'from "\./([\w.]+)"', text)}
    started = set(re.findall(r'<script[^>]* src="([\w.]+)"', (FOLDER / "index.html").read_text()))
    assert imported | started == set(scripts)


def test_every_name_that_a_module_takes_from_another_is_exported_and_used() -> None:
    scripts = {file.name: file.read_text() for file in FILES if file.suffix == ".js"}
    for name, text in scripts.items():
        for names, other in re.findall(r'import \{([^}]+)\} from "\./([\w.]+)"', text):
            for taken in (one.strip() for one in names.split(",") if one.strip()):
                exported = rf"export (?:async )?(?:function|const|class|let) {re.escape(taken)}(?![\w$])"
                assert re.search(exported, scripts[other]), f"{name} takes {taken} from {other}"
                uses = re.findall(rf"(?<![\w$]){re.escape(taken)}(?![\w$])", text)
                assert len(uses) > 1, f"{name} does not use {taken}"


def test_each_is_served_with_its_type_and_the_policy() -> None:
    types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assets = read_assets()
    assert set(assets) == {"/", *(f"/{file.name}" for file in FILES)}
    for path, asset in assets.items():
        headers = dict(asset.headers)
        assert headers[b"content-security-policy"].decode() == CONTENT_SECURITY_POLICY
        suffix = Path(path).suffix or ".html"
        assert headers[b"content-type"].decode().partition(";")[0] == types[suffix]
    for rule in ("default-src 'none'", "script-src 'self'", "require-trusted-types-for 'script'"):
        assert rule in CONTENT_SECURITY_POLICY


def test_the_page_can_be_loaded_many_times_in_a_row_without_a_token(api: httpx.Client) -> None:
    with httpx.Client(base_url=api.base_url) as stranger:
        for _ in range(20):
            assert {stranger.get(path).status_code for path in read_assets()} == {200}
