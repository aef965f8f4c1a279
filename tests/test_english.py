"""The English of docstrings, comments and texts for users: what a machine can hold of the rules for it.

A sentence names its subject first, has one idea and at most 25 words, and a comment is a sentence of its
own. `ALLOWED` says how many places still break each rule. The numbers only get smaller.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator

import pytest

from .test_modules import MODULES

MOST_WORDS = 25

ALLOWED = {
    "subject": 0,
    "long": 0,
    "continued": 0,
}
"""Places that were there when the rules came."""

_NO_SUBJECT = re.compile(r"^(What|Who|Whoever|Whatever|Whichever|That one|Those that|Whose)\b")
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+")
_TABLE = re.compile(r"\S {2,}\S|\n {8,}|\x08|^\s*- ")
"""A list, or lines of an example: they are no sentences."""
_CODE = re.compile(r"`[^`]*`")


def texts(source: str) -> Iterator[str]:
    """The paragraphs of all docstrings, and of the strings that explain a constant."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            value = node.value.value
            if isinstance(value, str):
                for paragraph in re.split(r"\n\s*\n", value):
                    if not _TABLE.search(paragraph):
                        yield " ".join(paragraph.split())


def comments(source: str) -> Iterator[str]:
    """Each comment on lines of its own; a block of lines is one comment."""
    block: list[str] = []
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.match(r"#\s*(type:|noqa|fmt:)", token.string):
            alone = token.line.lstrip().startswith("#")
            if alone and block and token.start[0] == last + 1:
                block.append(token.string.lstrip("# "))
            else:
                if block:
                    yield " ".join(block)
                block = [token.string.lstrip("# ")]
            last = token.start[0]
    if block:
        yield " ".join(block)


def sentences(source: str) -> Iterator[str]:
    for text in (*texts(source), *comments(source)):
        yield from _SENTENCE.split(_CODE.sub("x", text))


RULES: dict[str, Callable[[str], list[str]]] = {
    "subject": lambda source: [each for each in sentences(source) if _NO_SUBJECT.match(each)],
    "long": lambda source: [each for each in sentences(source) if len(each.split()) > MOST_WORDS],
    "continued": lambda source: [each for each in comments(source) if each.startswith("…")],
}


@pytest.mark.parametrize("rule", RULES)
def test_the_english_keeps_to_the_rules(rule: str) -> None:
    found = [f"{name}: {each}" for name, path in MODULES.items() for each in RULES[rule](path.read_text())]
    assert len(found) <= ALLOWED[rule], "\n".join(found)
    assert len(found) >= ALLOWED[rule], f"only {len(found)} are left: say so in ALLOWED"


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ("subject", '"""Who waits is told."""'),
        ("subject", "# What comes later is dropped.\nx = 1"),
        ("long", '"""' + "word " * 26 + '"""'),
        ("continued", "x = 1  # … and more"),
    ],
)
def test_a_breach_is_found(rule: str, source: str) -> None:
    assert RULES[rule](source)
    assert not RULES[rule]('"""A run is accepted."""  # The ledger says so.')
