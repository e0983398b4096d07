"""What an operator sees: health, counts, log, ids."""

import json
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from torch import Tensor

from buckler.defenses import RandomRotation
from buckler.errors import PolicyError
from buckler.guard import Guard
from buckler.serve import create_app
from buckler.serve.judged import Judged

from .tiny import BLANK, CLASSIFY, DIES, LEFT, Scripted, body, settings, wait_for

LIVE, READY = "/v2/health/live", "/v2/health/ready"


def test_health(client: TestClient) -> None:
    assert client.get(LIVE).json() == {"live": True}
    found = client.get(READY)
    assert (found.status_code, found.json()) == (200, {"live": True, "ready": True})


@pytest.mark.filterwarnings(DIES)
def test_not_ready_before_the_start_while_draining_and_without_its_thread() -> None:
    def dies(x: Tensor) -> Judged:
        raise SystemExit

    app = create_app(Scripted(dies), settings(), log=False)  # type: ignore[arg-type]
    assert TestClient(app).get(READY).status_code == 503
    with TestClient(app) as client:
        assert client.get(READY).status_code == 200
        app.state.runner.drain()
        found = client.get(READY)
        assert found.status_code == 503
        assert found.json().pop("error") == ("the gateway is not ready: it is stopping")
        assert found.json()["ready"] is False
    with TestClient(app) as client:
        assert client.get(READY).status_code == 200
        client.post(CLASSIFY, json=body(LEFT))
        wait_for(lambda: client.get(READY).status_code == 503)
        assert client.get(LIVE).json() == {"live": True}


def test_counts(client: TestClient) -> None:
    client.post(CLASSIFY, json=body(LEFT, LEFT, BLANK))
    client.post(CLASSIFY, json=body(LEFT))
    client.post(CLASSIFY, content=b"")
    client.get("/nowhere/1")
    client.get("/nowhere/2")
    found = client.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain")
    lines = found.text.splitlines()
    for line in (
        'buckler_verdicts_total{bundle="0123456789ab",status="ACCEPTED"} 3.0',
        'buckler_verdicts_total{bundle="0123456789ab",status="SUSPICIOUS"} 1.0',
        'buckler_requests_total{code="200",route="/v1/classify"} 2.0',
        'buckler_requests_total{code="415",route="/v1/classify"} 1.0',
        'buckler_requests_total{code="404",route="other"} 2.0',
        'buckler_request_seconds_count{route="/v1/classify"} 3.0',
        "buckler_queue_rows 0.0",
    ):
        assert line in lines
    assert "nowhere" not in found.text


def test_two_gateways_count_apart(client: TestClient, guard: Guard) -> None:
    client.post(CLASSIFY, json=body(LEFT))
    with TestClient(create_app(guard, settings(), log=False)) as other:
        assert "buckler_verdicts_total{" not in other.get("/metrics").text


def test_a_request_keeps_its_callers_id_if_it_is_plain(client: TestClient) -> None:
    found = client.post(CLASSIFY, json=body(LEFT), headers={"x-request-id": "order-7.a"})
    assert found.headers["x-request-id"] == found.json()["request_id"] == "order-7.a"
    for given in ("a b", "x" * 65, '"}', ""):
        made = client.get(LIVE, headers={"x-request-id": given}).headers["x-request-id"]
        assert made != given
        assert len(made) == 32


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found = capsys.readouterr()
    assert found.out == ""
    return [json.loads(line) for line in found.err.splitlines()]


def test_one_line_of_json_a_request(guard: Guard, capsys: pytest.CaptureFixture[str]) -> None:
    with TestClient(create_app(guard, settings())) as client:
        found = client.post(CLASSIFY, json=body(LEFT, LEFT, BLANK))
        client.get("/secret-path")
    first, second = logged(capsys)
    assert first["event"] == "request"
    assert first["request_id"] == found.json()["request_id"]
    assert (first["route"], first["code"], first["rows"]) == (CLASSIFY, 200, 3)
    assert first["statuses"] == {"ACCEPTED": 2, "SUSPICIOUS": 1}
    assert first["seconds"] > 0
    assert (second["route"], second["code"], second["rows"]) == ("other", 404, 0)


def test_the_log_says_why_a_guard_failed(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(x: Tensor) -> Judged:
        raise RuntimeError("the reason")

    app = create_app(Scripted(fails), settings())  # type: ignore[arg-type]
    with TestClient(app) as client:
        client.post(CLASSIFY, json=body(LEFT))
    (event,) = logged(capsys)
    assert event["code"] == 500
    assert "RuntimeError: the reason" in event["exception"]


def test_silence(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.post(CLASSIFY, json=body(LEFT))
    assert logged(capsys) == []


def test_the_contract_names_what_may_be_sent_and_what_comes_back(
    client: TestClient, scores: TestClient
) -> None:
    contract = client.get("/openapi.json").json()
    post = contract["paths"][CLASSIFY]["post"]
    assert set(post["requestBody"]["content"]) == {
        "application/json",
        "image/*",
        "multipart/form-data",
    }
    assert set(post["responses"]) == {
        *("200", "400", "408", "413", "415", "429", "500", "503", "504")
    }
    verdict = post["responses"]["200"]["content"]["application/json"]["schema"]
    promised = verdict["properties"]["verdicts"]["items"]
    every = set(promised["properties"]) - {"radius"}  # of guards that answer smoothed alone
    for asked, names in ((client, promised["required"]), (scores, every)):
        assert set(names) == set(asked.post(CLASSIFY, json=body(LEFT)).json()["verdicts"][0])


def test_a_random_guard_without_a_secret_is_refused(guard: Guard) -> None:
    random = replace(guard, path=(RandomRotation(5.0),))
    with pytest.raises(PolicyError, match="set BUCKLER_SECRET"):
        create_app(random, settings())
    create_app(replace(random, secret=b"ours"), settings())
