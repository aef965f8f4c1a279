"""The tables of http.md, from the code: `make docs` writes them, a test compares.

python docs/tell_http.py
"""

import json
import re
from pathlib import Path
from typing import Any

from greenroom.server.app import described
from greenroom.server.problems import PROBLEMS

PAGE = Path(__file__).with_name("http.md")


def addresses() -> str:
    """Each address with what it is for."""
    document = json.loads(described())
    lines = ["| | address | | takes | answers |", "|---|---|---|---|---|"]
    for path, item in sorted(document["paths"].items()):
        for method, operation in item.items():
            lines.append(_address(document, method, path, operation))
    return "\n".join(lines)


def _address(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    takes = [f"`{one['name']}`" for one in operation.get("parameters", ()) if one["in"] != "path"]
    body = operation.get("requestBody")
    if body is not None:
        schema = _schema(document, body["content"]["application/json"]["schema"])
        required = set(schema.get("required", ()))
        takes += [f"**{name}**" if name in required else name for name in schema["properties"]]
    status, answer = next((s, a) for s, a in operation["responses"].items() if s.startswith("2"))
    ((media_type, content),) = answer["content"].items()
    told = list(_schema(document, content["schema"])["properties"])
    if media_type == "text/event-stream":
        told = ["a stream"]
    elif len(told) > 6:
        told = [*told[:5], "…"]
    summary = operation["summary"]
    return f"| {method.upper()} | `{path}` | {summary} | {' '.join(takes)} | {status}: {' '.join(told)} |"


def _schema(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def problems() -> str:
    """Each problem with its status."""
    lines = ["| status | `urn:greenroom:problem:` | | |", "|---|---|---|---|"]
    for problem in sorted(PROBLEMS.values(), key=lambda one: one.status):
        retry = "" if problem.retry is None else f"Retry-After: {problem.retry}"
        lines.append(f"| {problem.status} | `{problem.name}` | {problem.title} | {retry} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with both tables as they are now."""
    for name, table in (("addresses", addresses()), ("problems", problems())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        text = re.sub(
            f"{begin}.*{end}", lambda _, t=table, b=begin, e=end: f"{b}\n{t}\n{e}", text, flags=re.DOTALL
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
