"""Whatever anyone sends, each answer is one that the contract promised."""

import contextlib
from pathlib import Path
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

from .stored import opened
from .tiny import BLANK, CLASSIFY, DIGEST, body, tiny_guard
from .tiny import settings as gateway

CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


def operations(app: FastAPI, headers: dict[str, str] | None = None) -> list[Any]:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers or {})
    return [found.ok() for found in schema.get_all_operations()]


def probe(
    app: FastAPI, examples: int, seed: int, key: str = "", only: str = "/", client: Any = None
) -> int:
    """How many requests were sent, good and bad, to each of the operations."""
    sent = 0
    headers = {"x-api-key": key} if key else {}
    with contextlib.nullcontext() if client else TestClient(app):
        for operation in operations(app, headers):
            if not operation.path.startswith(only):
                continue
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
                    case.call_and_validate(checks=CHECKS, headers=headers)

                ask()
    return sent


def fresh() -> FastAPI:
    return create_app(tiny_guard(), gateway(expose="scores"), log=False)


def test_no_answer_that_was_not_promised() -> None:
    assert probe(fresh(), 15, seed=0) > 100


def reviewed(folder: Path, examples: int, seed: int) -> int:
    """The same to the routes of the review queue, in which some rows wait."""
    with opened(folder) as found:
        for _ in range(5):
            found.client.post(CLASSIFY, json=body(BLANK))
        key = found.client.headers["x-api-key"]
        return sum(
            probe(found.app, examples, seed, key, only, found.client)
            for only in ("/v1/reviews", "/v1/verdicts")
        )


def test_no_answer_of_the_review_queue_that_was_not_promised(tmp_path: Path) -> None:
    assert reviewed(tmp_path, 8, seed=0) > 100


@pytest.mark.slow
def test_no_answer_of_rollouts_that_was_not_promised(tmp_path: Path) -> None:
    with opened(tmp_path) as found:
        key = found.client.headers["x-api-key"]
        assert probe(found.app, 10, 0, key, "/v1/rollouts", found.client) > 15


def test_the_examples_are_answered() -> None:
    app = fresh()
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
    assert probe(fresh(), 100, seed=1) > 500


@pytest.mark.slow
def test_no_answer_of_the_review_queue_that_was_not_promised_to_many(tmp_path: Path) -> None:
    assert reviewed(tmp_path, 100, seed=1) > 500
