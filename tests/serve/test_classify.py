"""POST /v1/classify: three kinds of body, one verdict an input."""

import math

import pytest
import torch
from fastapi.testclient import TestClient
from httpx import Response

from buckler.guard import Guard

from .tiny import BLANK, CLASSIFY, DIGEST, LEFT, RIGHT, SPEC, body, image


def answers(response: Response) -> list[tuple[str, str]]:
    assert response.status_code == 200, response.text
    return [(v["prediction"], v["status"]) for v in response.json()["verdicts"]]


def png(x: torch.Tensor) -> bytes:
    return SPEC.encode(x[0])


def test_an_answer_has_all_that_was_promised(scores: TestClient) -> None:
    found = scores.post(CLASSIFY, json=body(image(left=0.4)))
    light = 0.4 * 8  # 32 pixels of weight 1/4
    verdict = found.json()["verdicts"][0]
    odds = math.exp(light) / (1 + math.exp(-light))
    assert verdict.pop("confidence") == pytest.approx(odds / (1 + odds), abs=1e-6)
    assert verdict == {
        "prediction": "left",
        "anomaly_score": 0.0,
        "status": "ACCEPTED",
        "reasons": [],
        "bundle": DIGEST,
        "review_id": "",
    }
    assert found.json()["bundle"] == DIGEST
    assert found.json()["request_id"] == found.headers["x-request-id"]
    assert found.headers["content-type"] == "application/json"


def test_by_default_no_number_leaves(client: TestClient) -> None:
    (verdict,) = client.post(CLASSIFY, json=body(image(left=0.4))).json()["verdicts"]
    assert verdict == {
        "prediction": "left",
        "status": "ACCEPTED",
        "bundle": DIGEST,
        "review_id": "",
    }


def test_an_image(client: TestClient) -> None:
    found = client.post(CLASSIFY, content=png(RIGHT), headers={"content-type": "image/png"})
    assert answers(found) == [("right", "ACCEPTED")]


def test_a_form_of_images_keeps_their_order(client: TestClient) -> None:
    files = [("image", ("a.png", png(x))) for x in (RIGHT, LEFT, BLANK)]
    found = client.post(CLASSIFY, files=files)
    assert [prediction for prediction, _ in answers(found)][:2] == ["right", "left"]
    assert len(found.json()["verdicts"]) == 3


def test_rows_nested_or_flat(client: TestClient) -> None:
    flat = {"rows": [LEFT.flatten().tolist(), RIGHT.flatten().int().tolist()]}
    mixed = {"rows": [LEFT[0].tolist(), RIGHT.flatten().tolist()]}
    want = [("left", "ACCEPTED"), ("right", "ACCEPTED")]
    for given in (body(LEFT, RIGHT), flat, mixed):
        assert answers(client.post(CLASSIFY, json=given)) == want


def test_suspicious_is_an_answer_not_an_error(scores: TestClient) -> None:
    found = scores.post(CLASSIFY, json=body(BLANK))
    assert found.status_code == 200
    verdict = found.json()["verdicts"][0]
    assert verdict["status"] == "SUSPICIOUS"
    assert verdict["reasons"] == ["confidence"]
    assert verdict["confidence"] == pytest.approx(1 / 3)


def test_one_request_of_many_equals_many_of_one(scores: TestClient, guard: Guard) -> None:
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x[::2, ..., 4:] *= 0.5
    x = SPEC.snap(x)
    together = scores.post(CLASSIFY, json=body(x)).json()["verdicts"]
    alone = [scores.post(CLASSIFY, json=body(row[None])).json()["verdicts"][0] for row in x]
    direct = [verdict.to_dict() for verdict in guard.judge(x)]
    statuses = {verdict["status"] for verdict in together}
    assert statuses == {"ACCEPTED", "SUSPICIOUS"}, "the rows must tell the answers apart"
    for a, b, c in zip(together, alone, direct, strict=True):
        for name in ("confidence", "anomaly_score"):
            assert a[name] == pytest.approx(b.pop(name), abs=1e-6)
            assert a.pop(name) == pytest.approx(c.pop(name), abs=1e-6)
        c["reasons"] = list(c["reasons"])  # type: ignore[call-overload]
        assert a.pop("review_id") == b.pop("review_id") == ""
        assert a == b == c


def test_an_image_and_its_pixels_get_the_same_verdict(client: TestClient) -> None:
    x = SPEC.snap(torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    sent = client.post(CLASSIFY, content=png(x), headers={"content-type": "image/png"})
    assert sent.json()["verdicts"] == client.post(CLASSIFY, json=body(x)).json()["verdicts"]
