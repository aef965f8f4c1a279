"""The user's file as a module, and the kind in it that a command is about.

The module is named after the file: what the agents store names their classes by it, and the next command
on the same file finds them again. A file that is called like something else that can be imported
(`email.py`) gets a name that no import statement can mean.
"""

import sys
import traceback
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import click

from ..actors.agent.kind import Kind, kinds_of_module

MOST_FRAMES = 5
"""How many places of the user's code an error names."""


class CannotLoad(click.ClickException):
    """The file is not there, or raised an error; the text says where."""


class NoSuchKind(click.ClickException):
    """The file holds no such kind, or several to choose from."""


def split_target(target: str) -> tuple[Path, str | None]:
    """`FILE[:KIND]` as its two parts; a colon may stand in the file's own name."""
    file, colon, kind = target.rpartition(":")
    if not colon or Path(target).exists():
        return Path(target), None
    return Path(file), kind


def load_file(file: Path) -> ModuleType:
    """Execute `file` as a module, not as `__main__`; its folder comes first on `sys.path`."""
    if not file.exists():
        raise CannotLoad(f"there is no file {file}.")
    if not file.is_file():
        raise CannotLoad(f"{file} is not a file.")
    where = file.resolve()
    name = module_name(where)
    folder = str(where.parent)
    sys.path[:] = [folder, *(entry for entry in sys.path if entry != folder)]
    loader = SourceFileLoader(name, str(where))
    spec = spec_from_loader(name, loader)
    assert spec is not None  # there is a loader
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise CannotLoad(f"{file} could not be loaded.\n{_explain(error, where)}") from error
    return module


def module_name(file: Path) -> str:
    """The file's stem, unless that names another module: then a name that is none."""
    name = file.stem.replace(".", "-")
    return f"{name}-py" if _is_other_module(name, file) else name


def _is_other_module(name: str, file: Path) -> bool:
    if name in sys.stdlib_module_names:
        return True
    known = sys.modules.get(name)
    if known is not None:
        origin = getattr(known, "__file__", None)
    else:
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            return False
        if spec is None:
            return False
        if spec.submodule_search_locations is not None and spec.origin is None:
            return False  # a folder of that name: any module comes before it
        origin = spec.origin
    return origin is None or Path(origin).resolve() != file


def _explain(error: BaseException, file: Path) -> str:
    """The error, and the places in the user's own code that led to it."""
    folder = str(file.parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(folder) and "site-packages" not in frame.filename
    ]
    lines = [_place(frame.filename, frame.lineno, frame.line, folder) for frame in frames[-MOST_FRAMES:]]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append(_place(error.filename, error.lineno, error.text, folder))
        said = f"{type(error).__name__}: {error.msg}"
    elif isinstance(error, SystemExit):
        said = (
            f"It ended the program (SystemExit: {error.code}). What starts a program belongs under "
            'if __name__ == "__main__".'
        )
    else:
        said = "".join(traceback.format_exception_only(error)).strip()
    return "\n".join(f"  {line}" for line in [*lines, *said.splitlines()])


def _place(filename: str, line: int | None, text: str | None, folder: str) -> str:
    shown = filename.removeprefix(folder).lstrip("/")
    said = (text or "").strip()
    return f"{shown}, line {line}" + (f": {said}" if said else "")


def choose_kind(module: ModuleType, file: Path, wanted: str | None) -> Kind:
    """The kind called `wanted`, in the store or in the file; without it the only one written there."""
    found = {kind.name: kind for kind in kinds_of_module(module)}
    if not found:
        raise NoSuchKind(f"{file} holds no kind: decorate a function or a class with @agent.")
    own = {name: kind for name, kind in found.items() if kind.behaviour.__module__ == module.__name__}
    if wanted is None:
        offered = own or found
        if len(offered) > 1:
            raise NoSuchKind(f"{file} holds {len(offered)} kinds: say which.\n{_offer(file, offered)}")
        return next(iter(offered.values()))
    if wanted in found:
        return found[wanted]
    decorated = getattr(getattr(module, wanted, None), "__kind__", None) if wanted else None
    if isinstance(decorated, Kind):
        return decorated
    raise NoSuchKind(f"{file} holds no kind {wanted!r}. It holds:\n{_offer(file, found)}")


def _offer(file: Path, kinds: dict[str, Kind]) -> str:
    return "\n".join(f"  {file}:{name}" for name in kinds)
