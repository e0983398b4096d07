"""The V2 routes: metadata, every kind of input, every output, every refusal in one sentence."""

import gzip
import io
import json
import threading
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image

from buckler import wire
from buckler.guard import Guard
from buckler.inputs import InputSpec
from buckler.serve import create_app
from buckler.serve.judged import Judged, judging
from buckler.serve.outputs import OUTPUTS

from .test_refusals import refused, size
from .tiny import BLANK, DIGEST, LEFT, RIGHT, SPEC, Held, Scripted, settings, wait_for

MODEL = "/v2/models/buckler"
INFER = f"{MODEL}/infer"
X = torch.cat([LEFT, RIGHT, BLANK]).numpy()
JSON = {"content-type": "application/json"}


def post(client: TestClient, message: wire.Message, **headers: str) -> Response:
    body, framing = message.frame()
    return client.post(INFER, content=body, headers={**framing, **headers})


def read(response: Response) -> wire.InferResponse:
    assert response.status_code == 200, response.text
    length = response.headers.get(wire.HEADER_LENGTH)
    return wire.read_infer_response(*wire.unframe(response.content, length))


def ask(client: TestClient, x: np.ndarray, **given: Any) -> wire.InferResponse:
    return read(post(client, wire.infer_request({"input": x}, **given)))


def tensor(x: np.ndarray = X, **change: object) -> dict[str, Any]:
    head = {"name": "input", "shape": list(x.shape), "datatype": "FP32", **change}
    return {"inputs": [{"data": x.ravel().tolist(), **head}]}


def test_who_is_here(client: TestClient) -> None:
    server = client.get("/v2").json()
    assert (server["name"], server["extensions"]) == ("buckler", ["binary_tensor_data"])
    assert client.get("/v2/models").json() == {"models": ["buckler"]}
    found = client.get(MODEL).json()
    assert found == client.get(f"{MODEL}/versions/{DIGEST[:12]}").json()
    assert found == client.get(f"{MODEL}/versions/{DIGEST}").json()
    assert (found["name"], found["versions"]) == ("buckler", [DIGEST[:12]])
    assert found["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
    assert [each["name"] for each in found["outputs"]] == [
        *("prediction", "label", "status", "review_id")
    ]
    assert found["properties"] == {"bundle": DIGEST}
    assert client.get(f"{MODEL}/ready").json() == {"name": "buckler", "ready": True}


def test_the_model_may_have_another_name(guard: Guard) -> None:
    with TestClient(create_app(guard, settings(model="digits"), log=False)) as client:
        assert client.get("/v2/models").json() == {"models": ["digits"]}
        assert client.get("/v2/models/digits/ready").status_code == 200
        refused(client.get(MODEL), 404, "there is no such model: the model here is 'digits'")


@pytest.mark.parametrize("end", ["", "/ready", "/infer"])
def test_another_model_or_version(client: TestClient, end: str) -> None:
    ask_for = client.post if end == "/infer" else client.get
    refused(ask_for(f"/v2/models/other{end}"), 404, "there is no such model: the model here is")
    sentence = "there is no such version: the version is '0123456789ab'"
    refused(ask_for(f"{MODEL}/versions/1{end}"), 404, sentence)


def test_metadata_shows_what_may_be_asked_for(scores: TestClient) -> None:
    found = scores.get(MODEL).json()["outputs"]
    assert [each["name"] for each in found] == list(OUTPUTS)
    assert found[2] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    answer = ask(scores, X)
    for each in found:
        shape = answer.outputs[each["name"]].shape
        assert len(shape) == len(each["shape"])
        assert shape[0] == 3
        assert shape[1:] == tuple(each["shape"][1:])


def test_an_answer_has_all_that_was_promised(scores: TestClient, guard: Guard) -> None:
    """SUSPICIOUS is HTTP 200; whole-request facts are parameters."""
    response = post(scores, wire.infer_request({"input": X}, id="mine"))
    found = read(response)
    assert (found.model, found.version, found.id) == ("buckler", DIGEST[:12], "mine")
    assert found.parameters == {
        "bundle": DIGEST,
        "suspicious_count": 1,
        "request_id": response.headers["x-request-id"],
    }
    assert found.outputs["prediction"].tolist()[:2] == ["left", "right"]
    assert found.outputs["status"].tolist() == ["ACCEPTED", "ACCEPTED", "SUSPICIOUS"]
    assert found.outputs["reasons"].tolist() == ["", "", "confidence"]
    assert found.outputs["review_id"].tolist() == ["", "", ""]
    verdicts, probs = guard.judge_with_probabilities(torch.from_numpy(X))
    np.testing.assert_allclose(found.outputs["probabilities"], probs.numpy(), atol=1e-6)
    want = [v.confidence for v in verdicts]
    np.testing.assert_allclose(found.outputs["confidence"], want, atol=1e-6)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
def test_json_and_binary_say_the_same(
    scores: TestClient, binary: bool, binary_output: bool
) -> None:
    found = ask(scores, X, binary=binary, binary_output=binary_output)
    plain = ask(scores, X)
    for name in OUTPUTS:
        got, want = found.outputs[name].tolist(), plain.outputs[name].tolist()
        assert got == ([each.encode() for each in want] if got and _bytes(got) else want)
        assert _bytes(got) == (binary_output and OUTPUTS[name].datatype == "BYTES")


def _bytes(values: list[object]) -> bool:
    return isinstance(values[0], bytes)


def test_outputs_are_those_asked_for_in_binary_or_json(scores: TestClient) -> None:
    head = tensor()
    head["outputs"] = [
        {"name": "status"},
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "confidence", "parameters": {"binary_data": False}},
    ]
    response = scores.post(INFER, json=head)
    found = orjson.loads(response.content[: int(response.headers[wire.HEADER_LENGTH])])
    assert [output["name"] for output in found["outputs"]] == ["status", "label", "confidence"]
    assert ["data" in output for output in found["outputs"]] == [True, False, True]
    assert read(response).outputs["label"].tolist()[:2] == [0, 1]


def test_outputs_that_may_not_be_asked_for(client: TestClient, scores: TestClient) -> None:
    asked = {**tensor(), "outputs": [{"name": "confidence"}]}
    sentence = "outputs must be of prediction, label, status, review_id. Got 'confidence'"
    refused(client.post(INFER, json=asked), 400, sentence)
    asked["outputs"] = [{"name": "x" * 500}]
    refused(scores.post(INFER, json=asked), 400, "outputs must be of prediction, label, prob")


def test_every_kind_of_number(client: TestClient) -> None:
    """UINT8 images hold 0..255; all others hold what the model takes."""
    want = ask(client, X).outputs["prediction"].tolist()
    for kind in (np.float32, np.float64, np.float16, np.int8, np.int64, np.uint16):
        found = ask(client, X.astype(kind), binary=True).outputs["prediction"]
        assert found.tolist() == want
    assert ask(client, (X * 255).astype(np.uint8)).outputs["prediction"].tolist() == want
    grey = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8) * 4
    as_file = SPEC.decode(SPEC.encode(grey[0] / 255)).numpy()
    app: Any = client.app
    seen: list[torch.Tensor] = []
    judge = app.state.runner.stable.runner._judge
    app.state.runner.stable.runner._judge = lambda x: (seen.append(x), judge(x))[1]
    ask(client, grey.numpy(), binary=True)
    assert torch.equal(seen[0], torch.from_numpy(as_file)), "bit for bit what a file would be"


def test_numbers_of_a_model_that_takes_no_images() -> None:
    rows = Scripted(spec=InputSpec((3,), ("left", "b"), (0, 300)))
    with TestClient(create_app(rows, settings(), log=False)) as client:  # type: ignore[arg-type]
        assert ask(client, np.array([[1, 2, 255]], np.uint8)).outputs["label"].tolist() == [0]
        image = {"input": np.array([b"\xff\xd8"], object)}
        sent = post(client, wire.infer_request(image, binary=True))
        refused(sent, 400, "this model takes rows of shape (3,), not images: send JSON")


def files(*images: torch.Tensor) -> np.ndarray:
    array = np.empty(len(images), object)
    array[:] = [SPEC.encode(image[0]) for image in images]
    return array


@pytest.mark.parametrize("binary", [True, False])
def test_image_files(client: TestClient, binary: bool) -> None:
    """In JSON they are base64."""
    want = ask(client, X).outputs
    found = ask(client, files(LEFT, RIGHT, BLANK), binary=binary).outputs
    assert {n: a.tolist() for n, a in found.items()} == {n: a.tolist() for n, a in want.items()}


def test_image_files_that_are_none(client: TestClient) -> None:
    large = np.array([size(5000, 5000)], object)
    refused(
        post(client, wire.infer_request({"input": large}, binary=True)),
        400,
        "an image may have at most 16000000 pixels. Got 5000 x 5000",
    )
    broken = files(LEFT, RIGHT)
    broken[1] = b"GIF89a"
    refused(post(client, wire.infer_request({"input": broken})), 400, "image 2 of 2: the body must")
    text = {"inputs": [{"name": "input", "shape": [1], "datatype": "BYTES", "data": ["/9g="]}]}
    refused(client.post(INFER, json=text), 400, "base64 with the tensor's parameter content_type")


def test_a_body_that_is_one_tensor(client: TestClient) -> None:
    found = read(client.post(INFER, content=X.tobytes(), headers={wire.HEADER_LENGTH: "0"}))
    assert found.outputs["prediction"].tolist()[:2] == [b"left", b"right"]
    short = client.post(INFER, content=X.tobytes()[:-1], headers={wire.HEADER_LENGTH: "0"})
    refused(short, 400, "a body that is one tensor must be rows of 256 bytes")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "x"}, "there must be one input, called 'input'. Got 'x'"),
        ({"shape": [1, 192]}, "must have the shape (n, 1, 8, 8) with n from 1 to 3. Got (1, 192)"),
        ({"shape": []}, "the data of 'input' must be 1 values"),
        ({"shape": [0, 1, 8, 8], "data": []}, "with n from 1 to 3. Got (0, 1, 8, 8)"),
        ({"shape": [4, 1, 8, 8], "data": [0.0] * 256}, "with n from 1 to 3. Got (4, 1, 8, 8)"),
        ({"datatype": "BOOL", "data": [True] * 192}, "must be numbers, or image files in BYTES"),
        ({"datatype": "FP64", "data": [0.0] * 191 + [1e300]}, "inputs must be finite"),
        ({"data": [0.0] * 191 + [1.5]}, "inputs must lie in [0, 1]. Got values from 0 to 1.5"),
        ({"datatype": "BYTES", "data": ["a"] * 192}, "must have the shape (n) with n from 1 to 3"),
        ({"data": [0.0] * 191}, "must be 192 values, for the shape [3, 1, 8, 8]. Got 191"),
    ],
)
def test_inputs_that_are_none(guard: Guard, change: dict[str, object], sentence: str) -> None:
    with TestClient(create_app(guard, settings(max_rows=3), log=False)) as client:
        refused(client.post(INFER, json=tensor(**change)), 400, sentence)


def test_nan_in_binary(client: TestClient) -> None:
    bad = X.copy()
    bad[1, 0, 0, 0] = np.nan
    sent = post(client, wire.infer_request({"input": bad}, binary=True))
    refused(sent, 400, "inputs must be finite. Got NaN or infinity in 1 of 3 rows, first in row 1")


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"sequence_id": 1}, "the parameter 'sequence_id' is not taken: leave it out"),
        ({"priority": 1}, "the parameter 'priority' is not taken"),
        ({"triton_enable_empty_final_response": True}, "is not taken"),
        ({"timeout": -1}, "timeout must be a whole number of microseconds >= 0. Got -1"),
        ({"timeout": 1.5}, "Got 1.5"),
        ({"timeout": True}, "Got True"),
        ({"mine": [1]}, "must be text, a number, true or false. Got list"),
    ],
)
def test_parameters_that_are_none(
    client: TestClient, parameters: dict[str, object], sentence: str
) -> None:
    refused(client.post(INFER, json={**tensor(), "parameters": parameters}), 400, sentence)


def test_a_timeout_shortens_the_deadline() -> None:
    held = Held()
    app = create_app(Scripted(held), settings(), log=False)  # type: ignore[arg-type]
    with TestClient(app) as client:
        asked = {**tensor(), "parameters": {"timeout": 50_000}}
        refused(client.post(INFER, json=asked), 504, "the guard did not answer in time")
        held.go.set()
        wait_for(lambda: client.post(INFER, json=tensor()).status_code == 200)
        asked["parameters"] = {"timeout": 0, "mine": "x"}
        assert client.post(INFER, json=asked).status_code == 200


def test_not_ready(client: TestClient) -> None:
    app: Any = client.app
    app.state.runner.drain()
    found = client.get(f"{MODEL}/ready")
    assert found.status_code == 503
    assert found.json() == {
        "name": "buckler",
        "ready": False,
        "error": "the model does not judge now: try again",
    }


def deflated(content: bytes) -> bytes:
    return zlib.compress(content)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", deflated)])
def test_compressed_bodies(client: TestClient, coding: str, pack: Any) -> None:
    body, headers = wire.infer_request({"input": X}, binary=True).frame()
    headers = {**headers, "content-encoding": coding}
    found = read(client.post(INFER, content=pack(body), headers=headers))
    assert found.outputs["prediction"].tolist()[:2] == ["left", "right"]
    for content, sentence in (
        (body, f"the body must be {coding}, as its Content-Encoding says"),
        (b"", f"the {coding} of the body ends before it is whole"),
        (pack(body)[:-2], f"the {coding} of the body ends before it is whole"),
        (pack(body) + b"x", f"the body must end with its {coding}. Got bytes behind it"),
    ):
        refused(client.post(INFER, content=content, headers=headers), 400, sentence)


def test_a_bomb_is_refused_before_it_is_unpacked(guard: Guard) -> None:
    bomb = gzip.compress(bytes(300_000_000), 1)
    limit = 2_000_000
    headers = {**JSON, "content-encoding": "gzip"}
    with TestClient(create_app(guard, settings(max_body_bytes=limit), log=False)) as client:
        client.post(INFER, content=b"", headers=headers)
        tracemalloc.start()
        try:
            sent = client.post(INFER, content=bomb, headers=headers)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        refused(sent, 413, "the body may have at most 2000000 bytes")
    assert peak < 4 * limit + 2 * len(bomb)


def test_large_answers_are_compressed_for_those_who_take_it(guard: Guard) -> None:
    with TestClient(create_app(guard, settings(expose="scores"), log=False)) as client:
        x = np.repeat(X, 30, 0)
        plain = post(client, wire.infer_request({"input": x}), **{"accept-encoding": "identity"})
        packed = post(client, wire.infer_request({"input": x}), **{"accept-encoding": "gzip"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        a, b = ({n: v.tolist() for n, v in read(each).outputs.items()} for each in (plain, packed))
        assert a == b


def test_large_json_is_read_too(client: TestClient) -> None:
    x = np.repeat(X, 80, 0) * np.float32(0.999)
    assert len(json.dumps(tensor(x))) > 64 * 1024
    assert len(ask(client, x).outputs["label"]) == 240


@pytest.fixture
def many() -> np.ndarray:
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x[::2, ..., 4:] *= 0.5
    return SPEC.snap(x).numpy()


def test_batched_is_unbatched(scores: TestClient, many: np.ndarray) -> None:
    together = ask(scores, many, binary=True).outputs
    alone = [ask(scores, row[None], binary=True).outputs for row in many]
    assert set(together["status"].tolist()) == {"ACCEPTED", "SUSPICIOUS"}
    for name, column in together.items():
        parts = np.concatenate([answer[name] for answer in alone])
        if column.dtype.kind == "f":
            np.testing.assert_allclose(parts, column, atol=1e-5)
        else:
            assert parts.tolist() == column.tolist()


def test_requests_that_share_a_batch_get_what_they_get_alone(
    guard: Guard, many: np.ndarray
) -> None:
    judge, go, sizes = judging(guard), threading.Event(), []

    def waits(x: torch.Tensor) -> Judged:
        sizes.append(len(x))
        assert go.wait(30)
        return judge(x)

    app = create_app(Scripted(waits), settings(expose="scores"), log=False)  # type: ignore[arg-type]
    with TestClient(app) as client, ThreadPoolExecutor(len(many)) as callers:
        held = [callers.submit(ask, client, row[None], binary=True) for row in many]
        wait_for(lambda: app.state.runner.rows_waiting == len(many) - sizes[0] if sizes else False)
        go.set()
        shared = [each.result(30).outputs for each in held]
        alone = [ask(client, row[None], binary=True).outputs for row in many]
    assert max(sizes) > 1
    for a, b in zip(shared, alone, strict=True):
        assert a["prediction"] == b["prediction"]
        assert a["status"] == b["status"]
        np.testing.assert_allclose(a["probabilities"], b["probabilities"], atol=1e-5)


def test_another_method(client: TestClient) -> None:
    refused(client.get(INFER), 405, "GET is not possible at this path: use POST")
    refused(client.post("/v2"), 405, "POST is not possible at this path: use GET")
    refused(client.get("/v2/repository/index"), 404, "there is nothing at this path")


def test_the_verdict_of_a_tensor_is_that_of_its_file(client: TestClient, many: np.ndarray) -> None:
    as_files = files(*(torch.from_numpy(row[None]) for row in many))
    tensors, images = ask(client, many).outputs, ask(client, as_files).outputs
    assert {n: a.tolist() for n, a in tensors.items()} == {n: a.tolist() for n, a in images.items()}


def test_a_jpeg_and_a_webp(client: TestClient) -> None:
    array = np.empty(2, object)
    for index, kind in enumerate(("JPEG", "WEBP")):
        stream = io.BytesIO()
        Image.fromarray((RIGHT[0, 0].numpy() * 255).astype(np.uint8)).save(stream, kind)
        array[index] = stream.getvalue()
    assert ask(client, array).outputs["prediction"].tolist() == ["right", "right"]
