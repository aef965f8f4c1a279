"""The OpenAPI document: what Litestar makes of the handlers, and what holds for all of them.

Responses in case of an error are taken from the table in `problems`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag

from .problems import MEDIA_TYPE, PROBLEMS, ProblemView

DOCUMENT = "/api/openapi.json"
"""Where the document is served."""

EVERYWHERE = (401, 403, 408, 413, 415, 421, 422, 429, 503)
"""The answers that any request to the API may get."""


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """These, and what any request may be answered with, for a handler's `responses=`."""
    return some_problems(*statuses, *EVERYWHERE)


def some_problems(*statuses: int) -> dict[int, ResponseSpec]:
    """These alone."""
    return {
        status: ResponseSpec(
            ProblemView, description=_meaning(status), media_type=MEDIA_TYPE, generate_examples=False
        )
        for status in sorted(set(statuses))
    }


def _meaning(status: int) -> str:
    return "; or: ".join(problem.title for problem in PROBLEMS.values() if problem.status == status)


PROBLEM_RESPONSES: Mapping[int, ResponseSpec] = problems()


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Litestar's document put right where it says less, or other things, than is so.

    Its 400s are 422s here; a parameter that may be left out cannot be null; a body is needed only if
    something in it is; any request can be refused by the gate.
    """
    schemas = document["components"]["schemas"]
    schemas["SpawnRequest"]["properties"]["input"] = {}
    for item in document["paths"].values():
        for operation in item.values():
            operation["responses"].pop("400", None)
            for parameter in operation.get("parameters", ()):
                _without_null(parameter["schema"])
            body = operation.get("requestBody")
            if body is not None:
                schema = body["content"]["application/json"]["schema"]
                body["required"] = bool(schemas[schema["$ref"].rpartition("/")[2]].get("required"))
    return document


def _without_null(schema: dict[str, Any]) -> None:
    real = [one for one in schema.pop("oneOf", ()) if one != {"type": "null"}]
    for one in real:
        schema.update(one)
    if isinstance(schema.get("type"), list):
        schema["type"] = next(one for one in schema["type"] if one != "null")
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]


class _Json(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return msgspec.json.encode(complete(openapi_schema))


def config(version: str) -> OpenAPIConfig:
    """How the document is made; it is served at `/api/openapi.json`."""
    token = SecurityScheme(
        type="http", scheme="bearer", description="The token that lies beside the store, or one for a tree"
    )
    return OpenAPIConfig(
        title="greenroom",
        version=version,
        description="Many durable agents; few in memory; fewer at work.",
        path=DOCUMENT,  # with a router of its own, whose 404s are pages
        render_plugins=[_Json(path="/")],
        components=Components(security_schemes={"token": token}),
        security=[{"token": []}],
        tags=[Tag(name=name) for name in ("agents", "runs", "looking", "health")],
    )
