"""The plain pieces of the drivers: environments, masks, permissions, files, last messages."""

import os
from pathlib import Path
from typing import Any

import pytest

from greenroom.actors.views import AgentInfo
from greenroom.drivers.environment import BASICS, Limits, Mask, setting
from greenroom.drivers.files import LARGEST, FileRefused, Folder
from greenroom.drivers.messages import CHUNK, LastMessage
from greenroom.drivers.permissions import Option, checked_policy, choose, may_write

INFO = AgentInfo(
    "/t/a", "kind", 1, {"api_key": "secret-1", "model": "plain-model", "deep": [{"note": "used-in-env"}]},
    "idle", True, 1, None, 0, 0, 0.0, 0.0, None,
)  # fmt: skip

# Environments


def test_the_basics_and_what_the_kind_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BASICS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/of/the/runtime")
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("AWS_SECRET", "not for others")
    made = setting(["ls"], None, {"A": "1", "PATH": None}, None)
    assert made.environment(INFO) == {"A": "1", "HOME": "/home/of/the/runtime"}


def test_limits_are_given_by_the_systems_names() -> None:
    assert Limits(memory=1 << 30, cpu=5).of_system == {"AS": 1 << 30, "CPU": 5, "CORE": 0}


def test_a_mask_hides_what_is_secret_by_its_name_and_what_of_the_config_is_in_the_environment() -> None:
    made = setting(
        ["ls"], None, {"NOTE": "is used-in-env", "MY_TOKEN": "token-value", "MODE": "verbose"}, None
    )
    mask = made.mask(INFO)
    told = {"k": ["secret-1", "plain-model used-in-env"], "token-value": "verbose", "n": 3}
    assert mask.value(told) == {"k": ["[secret]", "plain-model [secret]"], "[secret]": "verbose", "n": 3}


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    assert Mask(["abcdef", "abcdefghi"]).text("abcdefghi abcdef abc") == "[secret] [secret] abc"


# Permissions

OPTIONS = [
    Option("ever", "Always", "allow_always"),
    Option("once", "Once", "allow_once"),
    Option("never", "Never", "reject_always"),
]


def test_yes_means_this_time_and_no_whatever_says_no() -> None:
    assert choose(OPTIONS, True) == "once"
    assert choose(OPTIONS, False) == "never"
    assert choose(OPTIONS[:1], True) == "ever"
    assert choose(OPTIONS[:2], False) is None
    assert choose(OPTIONS, "ever") == "ever"


@pytest.mark.parametrize(
    ("policy", "writes"),
    [("deny", False), ("allow", True), ("ask", True), (["edit"], True), ({"read"}, False), (bool, True)],
)
def test_whether_files_are_written_for_it(policy: Any, writes: bool) -> None:
    assert may_write(checked_policy(policy)) is writes


# Files


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub/text").write_text("one\ntwo\nthree\n")
    (tmp_path / "outside").write_text("outside")
    return Folder(str(root))


def test_a_file_is_read_by_lines(folder: Folder) -> None:
    path = f"{folder.root}/sub/text"
    assert folder.read(path) == "one\ntwo\nthree\n"
    assert folder.read(path, line=2) == "two\nthree\n"
    assert folder.read(path, line=2, limit=1) == "two\n"
    assert folder.read(path, limit=0) == ""
    assert folder.read(path, line=9) == ""
    assert folder.read(f"{folder.root}//sub/text") == "one\ntwo\nthree\n"


def test_a_file_is_written_whole_and_keeps_its_mode(folder: Folder) -> None:
    path = f"{folder.root}/sub/text"
    os.chmod(path, 0o640)
    folder.write(path, "new")
    assert Path(path).read_text() == "new"
    assert os.stat(path).st_mode & 0o777 == 0o640
    folder.write(f"{folder.root}/made", "ünd")
    assert Path(f"{folder.root}/made").read_text() == "ünd"
    assert sorted(os.listdir(folder.root)) == ["made", "sub"]  # no draft is left


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("{root}/../outside", "goes by"),
        ("{root}/sub/../../outside", "goes by"),
        ("{root}/./sub/text", "goes by"),
        ("sub/text", "not absolute"),
        ("{root}", "is not in"),
        ("{root}x/text", "is not in"),
        ("/etc/passwd", "is not in"),
        ("{root}/a\0b", "NUL"),
        ("{root}/link", "link"),
        ("{root}/dangling", "link"),
        ("{root}/away/outside", "goes by a link, away"),
        ("{root}/hard", "is a link"),
        ("{root}/pipe", "no plain file"),
        ("{root}/sub", "no plain file"),
        ("{root}/nowhere/text", "cannot be opened"),
    ],
)
def test_what_is_not_a_plain_file_of_the_folder_is_refused(folder: Folder, path: str, problem: str) -> None:
    root = Path(folder.root)
    (root / "link").symlink_to(root.parent / "outside")
    (root / "dangling").symlink_to("nothing")
    (root / "away").symlink_to(root.parent)
    os.link(root.parent / "outside", root / "hard")
    os.mkfifo(root / "pipe")
    path = path.replace("{root}", str(root))
    with pytest.raises(FileRefused, match=problem):
        folder.read(path)
    with pytest.raises(FileRefused, match=problem):
        folder.write(path, "changed")
    assert (root.parent / "outside").read_text() == "outside"
    assert not (root / "nothing").exists()


def test_what_is_too_large_or_no_text_is_refused(folder: Folder) -> None:
    with open(f"{folder.root}/large", "wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(FileRefused, match="larger than"):
        folder.read(f"{folder.root}/large")
    Path(f"{folder.root}/binary").write_bytes(b"\xff\xfe")
    with pytest.raises(FileRefused, match="no UTF-8"):
        folder.read(f"{folder.root}/binary")


# Messages


def last(*updates: tuple[str, str | None, str]) -> str:
    message = LastMessage()
    for update in updates:
        message.update(*update)
    return message.text


def test_the_last_message_begins_after_whatever_else_was_done() -> None:
    assert last((CHUNK, None, "a"), (CHUNK, None, "b")) == "ab"
    assert last((CHUNK, None, "a"), ("tool_call", None, ""), (CHUNK, None, "b")) == "b"
    assert last((CHUNK, None, "a"), ("usage_update", None, ""), (CHUNK, None, "b")) == "ab"
    assert last((CHUNK, None, "a"), ("tool_call", None, "")) == "a"
    assert last((CHUNK, "1", "a"), ("tool_call", None, ""), (CHUNK, "1", "b")) == "ab"
    assert last((CHUNK, "1", "a"), (CHUNK, "2", "b")) == "b"
    assert last() == ""
