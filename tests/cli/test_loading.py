"""Files as modules, and the kinds in them."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from greenroom.cli.loading import (
    CannotLoad,
    NoSuchKind,
    choose_kind,
    load_file,
    module_name,
    split_target,
)

Run = Callable[..., Result]
Write = Callable[[str, str], Path]

ONE = """
    from greenroom import agent

    @agent(name="cli-one")
    async def one(turn):
        return 1
    """
TWO = """
    from greenroom import agent

    @agent(name="cli-first")
    async def first(turn):
        return 1

    @agent(name="cli-second")
    async def second(turn):
        return 2
    """


def test_a_target_is_a_file_and_perhaps_a_kind(write: Write) -> None:
    write("a:b.py", "")
    assert split_target("agents.py") == (Path("agents.py"), None)
    assert split_target("agents.py:kind") == (Path("agents.py"), "kind")
    assert split_target("a:b.py") == (Path("a:b.py"), None)
    assert split_target("a:b.py:kind") == (Path("a:b.py"), "kind")


def test_a_file_is_loaded_under_its_stem_and_not_as_main(write: Write) -> None:
    file = write("loaded_once.py", "name = __name__\nif name == '__main__': raise SystemExit\n")
    module = load_file(file)
    assert module.name == "loaded_once"
    assert sys.modules["loaded_once"] is module
    assert sys.path[0] == str(file.parent)


def test_what_stands_beside_a_file_can_be_imported_and_imports_the_file(write: Write) -> None:
    write("cli_sibling.py", "def back():\n    import cli_main\n    return cli_main\n")
    module = load_file(write("cli_main.py", "import cli_sibling\n"))
    assert module.cli_sibling.back() is module


def test_a_file_called_like_another_module_gets_a_name_of_its_own(write: Write) -> None:
    import email

    module = load_file(write("email.py", "class Mail: pass\n"))
    assert module.__name__ == "email-py"
    assert sys.modules["email"] is email
    assert type(pickle.loads(pickle.dumps(module.Mail()))) is module.Mail


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("plain.py", "plain"),
        ("with-hyphen.py", "with-hyphen"),
        ("with.dot.py", "with-dot"),
        ("no_suffix", "no_suffix"),
        ("this.py", "this-py"),  # of the standard library, whether imported or not
        ("click.py", "click-py"),
        ("greenroom.py", "greenroom-py"),
        ("__main__.py", "__main__-py"),
    ],
)
def test_names_of_modules(name: str, module: str, write: Write) -> None:
    file = write(name, "")
    assert module_name(file) == module
    assert load_file(file).__name__ == module
    assert module_name(file) == module  # the next time as well


@pytest.mark.parametrize("name", ["queue.py", "script", "my-agents.v2.py"])
def test_any_file_with_a_kind_can_be_run(name: str, run: Run, write: Write) -> None:
    assert run(write(name, ONE)).stdout == "1\n"


def test_classes_of_the_file_are_found_again_by_the_next_command(run: Run, write: Write) -> None:
    file = write(
        "types.py",
        """
        from greenroom import agent

        class Count:
            number = 0

        @agent(name="cli-typed", state=Count)
        async def typed(turn):
            turn.state.number += 1
            return turn.state.number
        """,
    )
    assert run(file, "--store", "typed.db").stdout == "1\n"
    assert run(file, "--store", "typed.db").stdout == "2\n"


# Choosing


def test_of_several_kinds_one_must_be_chosen(run: Run, write: Write) -> None:
    file = write("several.py", TWO)
    result = run(file)
    assert result.exit_code == 1
    assert f"  {file}:cli-first\n  {file}:cli-second\n" in result.stderr
    assert run(f"{file}:cli-second").stdout == "2\n"
    assert run(f"{file}:second").stdout == "2\n"  # its name in the file
    wrong = run(f"{file}:third")
    assert wrong.exit_code == 1
    assert "no kind 'third'" in wrong.stderr
    assert f"{file}:cli-first" in wrong.stderr


def test_the_only_kind_is_the_only_one_written_there(write: Write) -> None:
    write("imported_kinds.py", TWO)
    file = write("importing.py", "from imported_kinds import first, second\n" + ONE.replace("\n    ", "\n"))
    module = load_file(file)
    assert choose_kind(module, file, None).name == "cli-one"
    assert choose_kind(module, file, "cli-second").name == "cli-second"


def test_a_file_that_only_imports_its_kind_has_that(write: Write) -> None:
    write("imported_one.py", ONE)
    file = write("imports_one.py", "from imported_one import one\nanother = one\n")
    assert choose_kind(load_file(file), file, None).name == "cli-one"


def test_a_file_without_kinds_says_so(write: Write) -> None:
    file = write("empty.py", "async def forgotten(turn): pass\n")
    for wanted in (None, "forgotten"):
        with pytest.raises(NoSuchKind, match="holds no kind: decorate"):
            choose_kind(load_file(file), file, wanted)


# Errors


def test_a_file_that_is_not_there_says_so(write: Write, tmp_path: Path) -> None:
    with pytest.raises(CannotLoad, match=r"there is no file nothing\.py"):
        load_file(Path("nothing.py"))
    with pytest.raises(CannotLoad, match="is not a file"):
        load_file(tmp_path)


def test_an_error_in_the_file_is_told_with_its_place(run: Run, write: Write) -> None:
    result = run(write("wrong.py", "import os\n\ndef load():\n    return {}['x']\n\nload()\n"))
    assert result.exit_code == 1
    assert "wrong.py could not be loaded." in result.stderr
    assert (
        "  wrong.py, line 6: load()\n  wrong.py, line 4: return {}['x']\n  KeyError: 'x'" in result.stderr
    )
    assert "Traceback" not in result.stderr
    assert "importlib" not in result.stderr
    assert "wrong" not in sys.modules


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (1,\n", "line 1: x = (1,\n  SyntaxError: '(' was never closed"),
        ("import no_such_module_at_all\n", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("import broken_sibling\n", "broken_sibling.py, line 2: y = = 1\n  SyntaxError"),
        ("raise SystemExit(3)\n", "ended the program (SystemExit: 3)"),
        ("from . import sibling\n", "ImportError"),
        ("x = '\0'\n", "null bytes"),
    ],
)
def test_what_can_be_wrong_with_a_file(text: str, said: str, run: Run, write: Write) -> None:
    write("broken_sibling.py", "x = 1\ny = = 1\n")
    result = run(write("broken.py", text))
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_kind_that_cannot_be_right_is_told_with_its_place(run: Run, write: Write) -> None:
    result = run(
        write("odd_kind.py", "from greenroom import agent\n@agent(version=0)\ndef odd(turn): ...\n")
    )
    assert "odd_kind.py, line 2" in result.stderr
    assert "ValueError: version= is an int from 1 to 2147483647, not 0" in result.stderr
