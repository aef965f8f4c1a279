"""What the source of a tree of modules says, as plain values.

Everything here is a pure function of files and values: which modules a directory holds
(`find_modules`), what one file says (`analyse`), which modules its imports mean (`imported`),
which modules import each other in a circle (`cycles`), and the report made of all that
(`make_report`). It knows nothing of agents: those are in `survey.py`.

Conventions, where another choice was possible:

- A module is a `.py` file that can be imported by name: its stem and every folder between it and
  the surveyed directory are identifiers. That leaves out `site-packages`, hidden folders and
  scripts such as `make-it.py`. A folder without `__init__.py` is a package all the same. Where
  `p.py` stands beside `p/__init__.py`, `p` means the package, as it does to Python.
- A module depends on another if it imports it anywhere. A *cycle*, however, is made of the
  imports that run while a module is loaded: one inside a function runs later, which is how cycles
  are usually broken, and one under `if TYPE_CHECKING` or `if __name__ == "__main__"` not at all.
- `import a.b` and `from a import b` mean `a.b` if there is such a module, and otherwise the
  nearest one above it that exists; the packages on the way are not counted too.
- A public name is a class or function of the module, or a method of a public class, that does
  not begin with an underscore. Defined twice (a property and its setter), it is one name.
- The branches of a function are the places where it may go two ways: `if`, conditional
  expressions, loops, `except`, `case`, each `and`/`or`, each `for` and `if` of a comprehension.
  A function nested in another has its own; a lambda adds to the function around it.
"""

from __future__ import annotations

import ast
import os
import threading
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

TOP = 20  # rows of a ranking

SOURCE = "<surveyed source>"  # the file name the parser is told
warnings.filterwarnings("ignore", module=SOURCE)  # what it warns of is the author's business


class Module(NamedTuple):
    name: str  # as others import it: "email.mime" for email/mime/__init__.py
    package: str  # the folder it is in, where its relative imports begin; "" at the top
    file: str

    @property
    def stem(self) -> str:
        """The file's own name: "__init__" for a package."""
        return Path(self.file).stem


@lru_cache(maxsize=8)  # every agent of a survey asks for the same tree
def find_modules(directory: str, limit: int | None = None) -> Mapping[str, Module]:
    """The modules under a directory by name, in order of name; the first `limit` of them.

    A directory that is a package, or lies in one, gives its modules their full names.
    """
    top = Path(directory)
    while (top / "__init__.py").is_file():
        top = top.parent
    modules: dict[str, Module] = {}
    for folder, subfolders, files in os.walk(directory):
        subfolders[:] = [name for name in subfolders if name.isidentifier()]
        package = ".".join(Path(folder).relative_to(top).parts)
        for stem, ending in map(os.path.splitext, files):
            if ending != ".py" or not stem.isidentifier():
                continue
            is_package = bool(package) and stem == "__init__"
            name = package if is_package else f"{package}.{stem}".lstrip(".")
            if is_package or name not in modules:
                modules[name] = Module(name, package, os.path.join(folder, stem + ending))
    return {name: modules[name] for name in sorted(modules)[:limit]}


class Import(NamedTuple):
    level: int  # dots before the name
    module: str  # "" in `from . import x`
    names: tuple[str, ...]  # what follows `from … import`; empty for a plain `import`
    lazy: bool  # does not run while the module is loaded


class Function(NamedTuple):
    name: str  # with the classes and functions around it: "Reader.read"
    line: int
    branches: int


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """What one file says. An unreadable one has a size and nothing else."""

    bytes: int
    lines: int
    unreadable: str = ""  # why, if it is
    classes: int = 0
    functions: tuple[Function, ...] = ()  # methods and nested functions too
    documented: tuple[str, ...] = ()  # public names with a docstring
    undocumented: tuple[str, ...] = ()  # and those without
    imports: tuple[Import, ...] = ()

    def counts(self) -> dict[str, int]:
        """The numbers that add up from modules to packages to the whole."""
        return {
            "modules": 1,
            "unreadable": int(bool(self.unreadable)),
            "bytes": self.bytes,
            "lines": self.lines,
            "classes": self.classes,
            "functions": len(self.functions),
            "public": len(self.documented) + len(self.undocumented),
            "documented": len(self.documented),
        }


# CPython counts the depth of a syntax tree under construction for all threads together, and two
# constructed at once can fail with SystemError (python/cpython#106905).
_ONE_AT_A_TIME = threading.Lock()


def analyse_file(file: str) -> ModuleFacts:
    try:
        return analyse(Path(file).read_bytes())
    except OSError as error:
        return ModuleFacts(0, 0, unreadable=f"{type(error).__name__}: {error.strerror}")


def analyse(source: bytes) -> ModuleFacts:
    """The facts of one file. Costs a third of a second of CPU per megabyte.

    Never fails: what cannot be parsed (another Python's syntax, a wrong encoding) is unreadable.
    """
    size, lines = len(source), len(source.splitlines())
    try:
        with _ONE_AT_A_TIME:
            tree = ast.parse(source, SOURCE)
        reading = _Reading(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return ModuleFacts(size, lines, unreadable=f"{type(error).__name__}: {error}")
    return ModuleFacts(
        bytes=size,
        lines=lines,
        classes=reading.classes,
        functions=tuple(Function(f.name, f.line, f.branches) for f in reading.functions),
        documented=tuple(sorted(name for name, has in reading.public.items() if has)),
        undocumented=tuple(sorted(name for name, has in reading.public.items() if not has)),
        imports=tuple(reading.imports),
    )


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_BRANCHES = frozenset(
    {
        ast.If,
        ast.IfExp,
        ast.For,
        ast.AsyncFor,
        ast.While,
        ast.ExceptHandler,
        ast.match_case,
        ast.comprehension,
    }
)
_NOT_WHEN_IMPORTED = {"TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'"}
_LEAVES = frozenset({ast.Name, ast.Constant, ast.Load, ast.Store, ast.alias, ast.Pass})


@dataclass(slots=True)
class _Function:
    name: str
    line: int
    branches: int = 0


class _Scope(NamedTuple):
    prefix: str  # of the names defined here
    public: bool  # whether those names can be
    lazy: bool  # whether what is here runs after the module is loaded, if ever
    function: _Function | None  # to whom branches count


class _Reading:
    """One walk over a syntax tree. On a stack of its own: sources nest deeper than calls may."""

    def __init__(self, tree: ast.Module) -> None:
        self.classes = 0
        self.functions: list[_Function] = []
        self.public: dict[str, bool] = {}  # name -> has a docstring
        self.imports: list[Import] = []
        pending: list[tuple[ast.AST, _Scope]] = [(tree, _Scope("", True, False, None))]
        while pending:
            node, scope = pending.pop()
            inner = self._visit(node, scope)
            pending += [(child, inner) for child in _children(node)]

    def _visit(self, node: ast.AST, scope: _Scope) -> _Scope:
        """Note what the node says; the scope of what is inside it."""
        function = scope.function
        if isinstance(node, _Definition):
            return self._define(node, scope)
        if isinstance(node, ast.Import):
            self.imports += [Import(0, alias.name, (), scope.lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            self.imports.append(Import(node.level, node.module or "", names, scope.lazy))
        elif function is None:
            if isinstance(node, ast.If) and ast.unparse(node.test) in _NOT_WHEN_IMPORTED:
                return scope._replace(lazy=True)
        else:
            if type(node) in _BRANCHES:
                function.branches += 1
            if isinstance(node, ast.BoolOp):
                function.branches += len(node.values) - 1
            elif isinstance(node, ast.comprehension):
                function.branches += len(node.ifs)
        return scope

    def _define(self, node: _Definition, scope: _Scope) -> _Scope:
        name = scope.prefix + node.name
        public = scope.public and not node.name.startswith("_")
        if public:
            has_docstring = ast.get_docstring(node, clean=False) is not None
            self.public[name] = self.public.get(name, False) or has_docstring
        if isinstance(node, ast.ClassDef):
            self.classes += 1
            return scope._replace(prefix=f"{name}.", public=public)
        function = _Function(name, node.lineno)
        self.functions.append(function)
        return _Scope(f"{name}.", public=False, lazy=True, function=function)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Like `ast.iter_child_nodes`, without the leaves: they are most of a tree."""
    for name in node._fields:
        value = getattr(node, name, None)
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST) and type(child) not in _LEAVES:
                yield child


def imported(imports: Iterable[Import], importer: Module, known: Mapping[str, Module]) -> dict[str, bool]:
    """The known modules that these imports mean, in order of name, without the importer itself.

    Each once, with whether every import of it is lazy.
    """
    found: dict[str, bool] = {}
    for level, module, names, lazy in imports:
        base = _absolute(level, module, importer.package)
        for name in [f"{base}.{name}" for name in names] or [base]:
            meant = name if name in known else _nearest(base, known)
            if meant and meant != importer.name:
                found[meant] = found.get(meant, True) and lazy
    return dict(sorted(found.items()))


def _absolute(level: int, module: str, package: str) -> str:
    """The full name of what a relative import names; "" if it leaves the tree."""
    if level == 0:
        return module
    parts = package.split(".") if package else []
    if level > len(parts):
        return ""
    return ".".join([*parts[: len(parts) - level + 1], module]).rstrip(".")


def _nearest(name: str, known: Mapping[str, Module]) -> str:
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def cycles(importers: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The groups of modules that all import each other, directly or through one another.

    These are the strongly connected components of more than one module (Tarjan 1972, on a stack
    of its own), the largest first, then by name; names in order.
    """
    index: dict[str, int] = {}  # when a module was first seen
    low: dict[str, int] = {}  # the earliest module on the path that it leads back to
    path: list[str] = []
    on_path: set[str] = set()
    found: list[list[str]] = []

    def enter(module: str) -> tuple[str, Iterator[str]]:
        index[module] = low[module] = len(index)
        path.append(module)
        on_path.add(module)
        return module, iter(importers.get(module, ()))

    for start in importers:
        work = [] if start in index else [enter(start)]
        while work:
            module, rest = work[-1]
            for other in rest:
                if other not in index:
                    work.append(enter(other))
                    break
                if other in on_path:
                    low[module] = min(low[module], index[other])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[module])
                if low[module] == index[module]:
                    group = path[path.index(module) :]
                    del path[-len(group) :]
                    on_path.difference_update(group)
                    if len(group) > 1:
                        found.append(sorted(group))
    return sorted(found, key=lambda group: (-len(group), group))


def most_complicated(functions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The top of rows of `module`, `function`, `line` and `branches`; the same from any order."""

    def rank(row: dict[str, Any]) -> tuple[int, str, int, str]:
        return -row["branches"], row["module"], row["line"], row["function"]

    return sorted(functions, key=rank)[:TOP]


def function_rows(module: str, facts: ModuleFacts) -> list[dict[str, Any]]:
    """What `most_complicated` ranks, of one module."""
    return [
        {"module": module, "function": name, "line": line, "branches": branches}
        for name, line, branches in facts.functions
    ]


def make_report(
    packages: Mapping[str, Mapping[str, Any]],
    importers: Mapping[str, Collection[tuple[str, bool]]],
) -> dict[str, Any]:
    """The report, as values that JSON has.

    `packages`: by package, the sums of its modules' `counts`, the most complicated of their
    `functions` as rows, and `unreadable`, why by module. `importers`: by module, those that
    import it, each once, with whether only lazily.
    """
    totals: Counter[str] = Counter()
    for sums in packages.values():
        totals.update(sums["counts"])
    on_load = {
        module: sorted(name for name, lazy in others if not lazy)
        for module, others in sorted(importers.items())
    }
    dependents = sorted((-len(others), module) for module, others in importers.items() if others)
    unreadable = {module: why for sums in packages.values() for module, why in sums["unreadable"].items()}
    return {
        "totals": {
            "packages": len(packages),
            **totals,
            "imports": sum(map(len, importers.values())),
        },
        "most_depended_upon": [
            {"module": module, "dependents": -count} for count, module in dependents[:TOP]
        ],
        "cycles": cycles(on_load),
        "most_complicated": most_complicated(
            row for sums in packages.values() for row in sums["functions"]
        ),
        "documentation": [
            {
                "package": package,
                "modules": sums["counts"]["modules"],
                "public": sums["counts"]["public"],
                "documented": sums["counts"]["documented"],
            }
            for package, sums in sorted(packages.items())
        ],
        "unreadable": dict(sorted(unreadable.items())),
    }
