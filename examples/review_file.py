"""A reviewer as a program: a file's name in, JSON lines out, the verdict last. Used by `review.py`.

By the standard library alone, and knowing nothing of greenroom.
"""

import ast
import json
import sys

LONGEST = 60


def say(**words):
    print(json.dumps(words), flush=True)


def remarks_on(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST and not isinstance(node, ast.ClassDef):
                yield node.lineno, f"{node.name} is {lines} lines long"
            if not ast.get_docstring(node) and not node.name.startswith("_"):
                yield node.lineno, f"{node.name} says nothing about itself"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "a bare except hides what went wrong"


def main():
    name = sys.stdin.read().strip()
    with open(name, encoding="utf-8") as file:
        text = file.read()
    count = 0
    for line, remark in remarks_on(ast.parse(text, name)):
        count += 1
        say(remark=f"{name}:{line}: {remark}")
    say(verdict={"file": name, "lines": text.count("\n"), "remarks": count})


main()
