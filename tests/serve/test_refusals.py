"""Every error is one JSON sentence, whatever its status, and tells nothing of the inside."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image
from torch import Tensor

from buckler.errors import PolicyError
from buckler.guard import Guard
from buckler.inputs import InputSpec
from buckler.serve import create_app
from buckler.serve.judged import Judged

from .tiny import CLASSIFY, DIES, LEFT, SPEC, Held, Scripted, body, settings, wait_for

IMAGE = {"content-type": "image/png"}
JSON = {"content-type": "application/json"}


def refused(response: Response, status: int, sentence: str) -> None:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert sentence in response.json()["error"]
    assert "\n" not in response.json()["error"]
    assert response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"


def size(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def row(*values: object) -> bytes:
    return json.dumps({"rows": [list(values)]}).encode()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "the body must be JSON"),
        (b"\xff\xfe", "the body must be JSON"),
        (b"[" * 100_000, "the body must be JSON"),
        (row(*[0.0] * 63, float("nan")), "the body must be JSON"),
        (row(*[0.0] * 63, float("inf")), "the body must be JSON"),
        (b"[]", 'the body must be {"rows": [[…], …]}. Got a list of 0'),
        (b'{"rows": [], "x": 1}', "Got an object with 'rows', 'x'"),
        (b'{"rows": []}', "rows must be a list of 1 to 3 rows. Got a list of 0"),
        (b'{"rows": 7}', "rows must be a list of 1 to 3 rows. Got a number"),
        (b'{"rows": [1, 2, 3, 4]}', "rows must be a list of 1 to 3 rows. Got a list of 4"),
        (row(*[0.0] * 63), "row 0 must be 64 numbers, flat or nested 1 x 8 x 8. Got a list of 63"),
        (row(*[0.0] * 63, True), "Got a list of 64 with true or false"),
        (row(*[0.0] * 63, "0"), "Got a list of 64 with text"),
        (row(*[0.0] * 63, None), "Got a list of 64 with null"),
        (row([[0.0] * 8] * 7 + [[0.0] * 7]), "row 0 must be 64 numbers"),
        (b'{"rows": ["abc"]}', "row 0 must be 64 numbers, flat or nested 1 x 8 x 8. Got text"),
        (row(*[0.0] * 63, 1.5), "inputs must lie in [0, 1]. Got values from 0 to 1.5"),
        (row(*[0.0] * 63, -1), "inputs must lie in [0, 1]. Got values from -1 to 0"),
        (row(*[0.0] * 63, 1e300), "inputs must be finite"),
        (row(*[0] * 63, 10**25), "inputs must lie in [0, 1]"),
    ],
)
def test_rows_that_are_none(guard: Guard, content: bytes, sentence: str) -> None:
    with TestClient(create_app(guard, settings(max_rows=3), log=False)) as client:
        refused(client.post(CLASSIFY, content=content, headers=JSON), 400, sentence)


def test_images_that_are_none(client: TestClient) -> None:
    for content, sentence in [
        (b"", "the body must be an image (PNG, JPEG, WEBP, BMP)"),
        (b"GIF89a", "the body must be an image"),
        (SPEC.encode(LEFT[0])[:45], "the image cannot be decoded"),
        (size(9, 8), "images must be 8 x 8 pixels. Got 9 x 8"),
        (size(5000, 5000), "an image may have at most 16000000 pixels. Got 5000 x 5000"),
    ]:
        refused(client.post(CLASSIFY, content=content, headers=IMAGE), 400, sentence)


def test_a_model_of_numbers_takes_no_images() -> None:
    rows = Scripted(spec=InputSpec((3,), ("a", "b")))
    with TestClient(create_app(rows, settings(), log=False)) as client:  # type: ignore[arg-type]
        sent = client.post(CLASSIFY, content=size(8, 8), headers=IMAGE)
        refused(sent, 400, "this model takes rows of shape (3,), not images: send JSON")
        sent = client.post(CLASSIFY, json={"rows": [[1.0, 0.0]]})
        refused(sent, 400, "row 0 must be 3 numbers. Got a list of 2")
        assert client.post(CLASSIFY, json={"rows": [[1.0, 0.0, 0.5]]}).status_code == 200


def test_forms_that_are_none(guard: Guard) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\nabc\r\n'
    good = SPEC.encode(LEFT[0])
    with TestClient(create_app(guard, settings(max_rows=3), log=False)) as client:
        for response, sentence in [
            (client.post(CLASSIFY, content=b"--x--\r\n", headers=form), "at least one image file"),
            (client.post(CLASSIFY, content=b"junk", headers=form), "the form cannot be read"),
            (
                client.post(
                    CLASSIFY, content=b"", headers={"content-type": form["content-type"][:19]}
                ),
                "Missing boundary",
            ),
            (client.post(CLASSIFY, content=part % b"a", headers=form), "at least one image file"),
            (client.post(CLASSIFY, data={"k": "v"}, files=[("f", good)]), "Got the field 'k'"),
            (client.post(CLASSIFY, files=[("f", good)] * 4), "Maximum number of files is 3"),
            (
                client.post(CLASSIFY, files=[("f", good), ("f", b"no")]),
                "file 2 of 2: the body must",
            ),
        ]:
            refused(response, 400, sentence)


def test_a_body_of_no_kind(client: TestClient) -> None:
    for headers, sentence in [
        ({}, "the Content-Type must be an image (image/*), a form of images"),
        ({"content-type": "text/plain"}, "Got 'text/plain'"),
        ({"content-type": "application/x-www-form-urlencoded"}, "the Content-Type must be"),
        (
            {**JSON, "content-encoding": "br"},
            "the Content-Encoding must be identity, gzip, deflate",
        ),
    ]:
        refused(client.post(CLASSIFY, content=b"x", headers=headers), 415, sentence)


def test_a_body_too_large(guard: Guard) -> None:
    with TestClient(create_app(guard, settings(max_body_bytes=1000), log=False)) as client:
        sent = client.post(CLASSIFY, content=b"x" * 1001, headers=IMAGE)
        refused(sent, 413, "the body may have at most 1000 bytes: send fewer rows at once")
        assert client.post(CLASSIFY, content=b"x" * 1000, headers=IMAGE).status_code == 400


def test_no_such_place_and_no_such_method(client: TestClient) -> None:
    for path in ("/", "/redoc", "/v2/", "/v1/classify/", "/%00"):
        refused(client.get(path), 404, "there is nothing at this path: inputs go to POST /v1/")
    sent = client.get(CLASSIFY)
    refused(sent, 405, "GET is not possible at this path: use POST")
    assert sent.headers["allow"] == "POST"
    refused(client.delete("/metrics"), 405, "use GET")


def test_more_than_may_wait() -> None:
    held = Held()
    app = create_app(Scripted(held), settings(max_rows=1, queue_rows=1), log=False)  # type: ignore[arg-type]
    with TestClient(app) as client, ThreadPoolExecutor(2) as callers:
        first = callers.submit(client.post, CLASSIFY, json=body(LEFT))
        assert held.entered.wait(30)
        second = callers.submit(client.post, CLASSIFY, json=body(LEFT))
        wait_for(lambda: app.state.runner.rows_waiting == 1)
        third = client.post(CLASSIFY, json=body(LEFT))
        held.go.set()
        refused(third, 429, "the gateway is busy, 2 rows wait: try again in 1 s")
        assert third.headers["retry-after"] == "1"
        assert [done.result(30).status_code for done in (first, second)] == [200, 200]


def test_no_answer_before_the_deadline() -> None:
    held = Held()
    app = create_app(Scripted(held), settings(deadline_s=1), log=False)  # type: ignore[arg-type]
    with TestClient(app) as client:
        refused(client.post(CLASSIFY, json=body(LEFT)), 504, "the guard did not answer in time")
        held.go.set()
        wait_for(lambda: client.post(CLASSIFY, json=body(LEFT)).status_code == 200)


def test_a_guard_that_fails_tells_nothing_and_lives_on() -> None:
    def fails_once(x: Tensor, failed: list[bool] = []) -> Judged:  # noqa: B006
        if not failed:
            failed.append(True)
            raise RuntimeError("weights at /srv/hidden")
        return Scripted().judge(x)

    app = create_app(Scripted(fails_once), settings(), log=False)  # type: ignore[arg-type]
    with TestClient(app) as client:
        sent = client.post(CLASSIFY, json=body(LEFT))
        refused(sent, 500, "the guard could not judge this input: nothing was accepted")
        assert "hidden" not in sent.text
        assert "Traceback" not in sent.text
        assert client.post(CLASSIFY, json=body(LEFT)).status_code == 200


def test_a_mistake_of_ours_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("hidden")

    monkeypatch.setattr("buckler.serve.body.rows_from_json", broken)
    with TestClient(create_app(Scripted(), settings(), log=False)) as client:  # type: ignore[arg-type]
        sent = client.post(CLASSIFY, json=body(LEFT))
        refused(sent, 500, "the gateway failed on this request: its log has the reason")
        assert "hidden" not in sent.text


@pytest.mark.filterwarnings(DIES)
def test_before_it_started_and_after_its_thread_died() -> None:
    def dies(x: Tensor) -> Judged:
        raise SystemExit

    app = create_app(Scripted(dies), settings(), log=False)  # type: ignore[arg-type]
    refused(TestClient(app).post(CLASSIFY, json=body(LEFT)), 503, "it is starting")
    with TestClient(app) as client:
        refused(client.post(CLASSIFY, json=body(LEFT)), 500, "the guard could not judge")
        wait_for(lambda: app.state.runner.broken)
        refused(client.post(CLASSIFY, json=body(LEFT)), 503, "the thread that judges died")


def test_another_bundle_than_asked_for(guard: Guard) -> None:
    with pytest.raises(PolicyError, match=f"the guard's digest must be {'a' * 64}. Got 0123"):
        create_app(guard, settings(digest="a" * 64))
