"""The API against its own document: schemathesis makes requests of it, right and wrong ones.

No answer is a 5xx, and every answer is as the document says: its status, its content type, its shape.
"""

import re
from collections import Counter
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode

from .conftest import DEADLINE, Served

pytestmark = pytest.mark.slow

EXAMPLES = 15
"""Requests for each address."""


def document(server: Served) -> dict[str, Any]:
    """The server's own, without the two addresses that answer as long as they are listened to."""
    with server.client() as api:
        found: dict[str, Any] = api.get("/api/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    server = Served(tmp_path_factory.mktemp("fuzzed") / "agents.db", "--rate", "1000000", "--drain", "0")
    with server.client() as api:
        for path in ("/t/a", "/t/runs"):
            api.post("/api/agents", json={"kind": "echo", "path": path, "input": 1})
    yield server
    try:
        assert server.stop() == 0
        assert "Traceback" not in server.logged()
    finally:
        server.kill()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_of_any_kind_gets_a_5xx_or_an_answer_that_the_document_does_not_know(
    fuzzed: Served, mode: GenerationMode
) -> None:
    config = schemathesis.Config()
    schema = schemathesis.openapi.from_dict(document(fuzzed), config=config)
    schema.config.update(base_url=fuzzed.url)
    asked = 0
    statuses: Counter[int] = Counter()
    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def ask(case: Any) -> None:
            nonlocal asked
            if case.path == "/api/events":
                case.query = {**(case.query or {}), "follow": "false"}
            if case.path == "/api/runs/{run_id}" and float_of((case.query or {}).get("wait")):
                case.query = {**case.query, "wait": "0.01"}
            asked += 1
            _make_some_succeed(case, asked)
            answer = case.call(headers={"Authorization": f"Bearer {fuzzed.token}"}, timeout=DEADLINE)
            assert answer.status_code < 500, answer.text
            statuses[answer.status_code] += 1
            schemathesis_checks(case, answer)

        try:
            ask()
        except hypothesis.errors.Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # there is nothing that could be wrong with it
    assert asked > 200
    assert statuses[422] > 20
    if mode is GenerationMode.POSITIVE:
        assert min(statuses[200], statuses[202]) > 20, statuses


def _make_some_succeed(case: Any, number: int) -> None:
    """Every second request is about an agent that there is: random paths and kinds name none."""
    if number % 2 == 0:
        if "path" in (case.path_parameters or {}) and "close" not in case.path and case.method != "DELETE":
            case.path_parameters["path"] = ["t%2Fa", "t%2Fruns"][number % 4 == 0]
        if (
            case.path == "/api/agents"
            and isinstance(case.body, dict)
            and {"kind", "path"} <= case.body.keys()
        ):
            case.body = {**case.body, "kind": "echo", "path": f"/made/n{number}"}


def float_of(value: Any) -> float:
    """A number that a wait may be, or 0."""
    return float(value) if re.fullmatch(r"\d+(\.\d+)?", str(value)) else 0.0


def schemathesis_checks(case: Any, answer: Any) -> None:
    """What the document says of answers."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    case.validate_response(
        answer,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
