"""Whatever anyone sends, each answer is one that the contract promised."""

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi import checks

from buckler.serve import create_app

from .tiny import DIGEST, tiny_guard
from .tiny import settings as gateway

CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


def operations(app: FastAPI) -> list[Any]:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    return [found.ok() for found in schema.get_all_operations()]


def probe(examples: int, seed: int) -> int:
    """How many requests were sent, good and bad, to each of the operations."""
    app = create_app(tiny_guard(), gateway(expose="scores"), log=False)
    sent = 0
    with TestClient(app):
        for operation in operations(app):
            modes = [GenerationMode.POSITIVE]
            if operation.method == "post":  # elsewhere there is nothing to get wrong
                modes.append(GenerationMode.NEGATIVE)
            for mode in modes:

                @settings(
                    max_examples=examples,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(operation.as_strategy(generation_mode=mode), st.just(seed))
                def ask(case: Any, _: int) -> None:
                    nonlocal sent
                    sent += 1
                    case.call_and_validate(checks=CHECKS)

                ask()
    return sent


def test_no_answer_that_was_not_promised() -> None:
    assert probe(15, seed=0) > 100


def test_the_examples_are_answered() -> None:
    app = create_app(tiny_guard(), gateway(expose="scores"), log=False)
    contract: dict[str, Any] = app.openapi()
    answered = []
    with TestClient(app):
        for operation in operations(app):
            bodies = contract["paths"][operation.path][operation.method].get("requestBody", {})
            for kind, body in bodies.get("content", {}).items():
                if "example" in body:
                    case = operation.Case(
                        path_parameters={"model": "buckler", "version": DIGEST[:12]},
                        body=body["example"],
                        media_type=kind,
                    )
                    response = case.call()
                    assert response.status_code == 200
                    case.validate_response(response, checks=CHECKS)
                    answered.append(operation.path)
    assert len(answered) == 2


@pytest.mark.slow
def test_no_answer_that_was_not_promised_to_many() -> None:
    assert probe(100, seed=1) > 500
