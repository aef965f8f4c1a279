"""The plain pieces of the drivers: environments, masks, permissions, files, last messages."""

import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from greenroom.actors.models import AgentInfo
from greenroom.drivers.environment import BASICS, Limits, Mask, setting
from greenroom.drivers.files import LARGEST_FILE_BYTES, FileRefused, Folder
from greenroom.drivers.messages import LARGEST_ANSWER_BYTES as LARGEST_MESSAGE
from greenroom.drivers.messages import MESSAGE_CHUNK, LastMessage
from greenroom.drivers.permissions import Option, checked_policy, choose, may_write
from greenroom.drivers.telling import tell
from greenroom.errors import CannotStore

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
    program, _ = made.program(INFO)
    assert program.env == {"A": "1", "HOME": "/home/of/the/runtime"}


def test_limits_are_given_by_the_systems_names() -> None:
    assert Limits(memory=1 << 30, cpu=5).of_system == {"AS": 1 << 30, "CPU": 5, "CORE": 0}


def test_a_mask_hides_what_is_secret_by_its_name_and_what_of_the_config_is_in_the_environment() -> None:
    made = setting(
        ["ls"], None, {"NOTE": "is used-in-env", "MY_TOKEN": "token-value", "MODE": "verbose"}, None
    )
    _, mask = made.program(INFO)
    told = {"k": ["secret-1", "plain-model used-in-env"], "token-value": "verbose", "n": 3}
    assert mask.value(told) == {"k": ["[secret]", "plain-model [secret]"], "[secret]": "verbose", "n": 3}


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    assert Mask(["abcdef", "abcdefghi"]).text("abcdefghi abcdef abc") == "[secret] [secret] abc"


def test_a_key_that_is_made_for_each_start_is_the_one_that_is_hidden() -> None:
    keys = (f"key-number-{n}" for n in count())
    made = setting(["ls"], None, lambda info: {"API_KEY": next(keys)}, None)
    for _ in range(2):
        program, mask = made.program(INFO)
        assert mask.text(program.env["API_KEY"]) == "[secret]"


def test_what_is_nested_deeply_is_hidden_all_the_same() -> None:
    deep: Any = "secret-1"
    for _ in range(700):
        deep = [deep]
    assert Mask(["secret-1"]).value(deep) == "[" * 700 + '"[secret]"' + "]" * 700


# Progress


class Told:
    """A turn that is told too much."""

    _over = suspended = False

    def __init__(self) -> None:
        self.events: list[Any] = []

    def emit(self, name: str, data: Any) -> None:
        if len(str(data)) > 1 << 20:
            raise CannotStore("it", "it is too long")
        self.events.append(data)


def test_of_a_question_that_is_too_long_the_id_and_the_options_are_told() -> None:
    turn: Any = Told()
    question = {"id": "permission-1", "options": [{"id": "yes"}], "tool_call": "x" * (2 << 20)}
    tell(turn, "permission", question, Mask([]))
    (told,) = turn.events
    assert (told["id"], told["options"], "tool_call" in told) == ("permission-1", [{"id": "yes"}], False)
    assert "it is too long" in told["why"]


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


def test_lines_end_at_newlines_alone(folder: Folder) -> None:
    path = f"{folder.root}/sub/text"
    Path(path).write_text("one\x0c still\u2028one\r\ntwo", newline="")
    assert folder.read(path, line=1, limit=1) == "one\x0c still\u2028one\r\n"
    assert folder.read(path, line=2) == "two"


def test_a_folder_that_is_a_link_is_known_by_both_names(folder: Folder) -> None:
    link = Path(folder.root).parent / "known-as"
    link.symlink_to(folder.root)
    known = Folder(str(link))
    assert known.read(f"{link}/sub/text") == known.read(f"{folder.root}/sub/text")
    with pytest.raises(FileRefused, match="is not in"):
        known.read(f"{link.parent}/outside")


def test_the_longest_names_are_written(folder: Folder) -> None:
    name = "ü" * 127
    folder.write(f"{folder.root}/{name}", "text")
    assert os.listdir(f"{folder.root}/sub") + sorted(os.listdir(folder.root)) == ["text", "sub", name]


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
        file.truncate(LARGEST_FILE_BYTES + 1)
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
    assert last((MESSAGE_CHUNK, None, "a"), (MESSAGE_CHUNK, None, "b")) == "ab"
    assert last((MESSAGE_CHUNK, None, "a"), ("tool_call", None, ""), (MESSAGE_CHUNK, None, "b")) == "b"
    assert last((MESSAGE_CHUNK, None, "a"), ("usage_update", None, ""), (MESSAGE_CHUNK, None, "b")) == "ab"
    assert last((MESSAGE_CHUNK, None, "a"), ("tool_call", None, "")) == "a"
    assert last((MESSAGE_CHUNK, "1", "a"), ("tool_call", None, ""), (MESSAGE_CHUNK, "1", "b")) == "ab"
    assert last((MESSAGE_CHUNK, "1", "a"), (MESSAGE_CHUNK, "2", "b")) == "b"
    assert (
        last((MESSAGE_CHUNK, None, "a"), *[(MESSAGE_CHUNK, None, "x" * LARGEST_MESSAGE)] * 3) == "a"
    )  # and that it was more
    assert last() == ""
