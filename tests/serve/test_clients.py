"""Other people's clients against a real server on the loopback."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from buckler.serve import Background

from .tiny import BLANK, DIGEST, LEFT, RIGHT, SPEC, settings, tiny_guard

X = torch.cat([LEFT, RIGHT, BLANK]).numpy()
STATUS = [b"ACCEPTED", b"ACCEPTED", b"SUSPICIOUS"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Background(tiny_guard(), settings(expose="scores"), log=False) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(
        url.removeprefix("http://"), connection_timeout=30, network_timeout=30
    ) as client:
        yield client


def given(x: np.ndarray, datatype: str = "FP32", binary: bool = True) -> list[triton.InferInput]:
    tensor = triton.InferInput("input", list(x.shape), datatype)
    tensor.set_data_from_numpy(x, binary_data=binary)
    return [tensor]


def wanted(binary: bool, *names: str) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def test_triton_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("buckler")
    assert client.is_model_ready("buckler", DIGEST[:12])
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    found = client.get_model_metadata("buckler")
    assert found["inputs"][0]["shape"] == [-1, 1, 8, 8]


def test_triton_by_default_all_binary(client: triton.InferenceServerClient) -> None:
    found = client.infer("buckler", given(X), request_id="mine")
    assert found.as_numpy("status").tolist() == STATUS
    assert found.as_numpy("label").dtype == np.int64
    assert found.as_numpy("probabilities").shape == (3, 3)
    np.testing.assert_allclose(
        found.as_numpy("probabilities").max(1), found.as_numpy("confidence"), atol=1e-6
    )
    assert found.get_response()["id"] == "mine"
    assert found.get_response()["parameters"]["suspicious_count"] == 1


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_triton_every_way(
    client: triton.InferenceServerClient, binary_in: bool, binary_out: bool, coding: str | None
) -> None:
    found = client.infer(
        "buckler",
        given(np.repeat(X, 40, 0), binary=binary_in),
        outputs=wanted(binary_out, "status", "probabilities", "label"),
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    status = found.as_numpy("status").tolist()
    assert [s if binary_out else s.encode() for s in status[::40]] == STATUS
    assert found.as_numpy("label").tolist()[:80] == [0] * 40 + [1] * 40
    names = [output["name"] for output in found.get_response()["outputs"]]
    assert names == ["status", "probabilities", "label"]


def test_triton_other_datatypes(client: triton.InferenceServerClient) -> None:
    files = np.array([SPEC.encode(image[0]) for image in (LEFT, RIGHT, BLANK)], object)
    pixels = (X * 255).astype(np.uint8)
    for inputs in (
        given(files, "BYTES"),
        given(pixels, "UINT8"),
        given(X.astype(np.float16), "FP16"),
        given(X.astype(np.float64), "FP64", binary=False),
    ):
        assert client.infer("buckler", inputs).as_numpy("status").tolist() == STATUS


def test_triton_says_our_sentence(client: triton.InferenceServerClient) -> None:
    for inputs, outputs, sentence in (
        (given(X[:, 0]), None, r"must have the shape \(n, 1, 8, 8\).* Got \(3, 8, 8\)"),
        (given(X + 1), None, r"inputs must lie in \[0, 1\]\. Got values from 1 to 2"),
        (given(X), wanted(True, "logits"), "outputs must be of prediction, .*Got 'logits'"),
    ):
        with pytest.raises(InferenceServerException, match=sentence) as caught:
            client.infer("buckler", inputs, outputs=outputs)
        assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException, match="no such model: the model here is"):
        client.infer("other", given(X))


def test_the_guide_is_true(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    guide = Path(__file__).parents[2] / "docs" / "guide" / "v2.md"
    (block,) = re.findall(r"```python\n(.*?)```", guide.read_text(), re.S)
    exec(block.replace("127.0.0.1:8080", url.removeprefix("http://")), {})
    assert "SUSPICIOUS" in capsys.readouterr().out


def test_a_request_as_kserve_sends_it(url: str) -> None:
    """Its fields, in its order, with parameters everywhere and data nested."""
    request = {
        "id": "4f2b",
        "inputs": [
            {
                "name": "input",
                "shape": [3, 1, 8, 8],
                "datatype": "FP32",
                "parameters": {"content_type": "np"},
                "data": X.tolist(),
            }
        ],
        "parameters": {"binary_data_output": False, "tenant": "a", "weight": 1.5},
    }
    found = httpx.post(f"{url}/v2/models/buckler/infer", json=request).json()
    assert set(found) == {"model_name", "model_version", "id", "parameters", "outputs"}
    status = next(output for output in found["outputs"] if output["name"] == "status")
    assert status["data"] == [each.decode() for each in STATUS]
    assert all(isinstance(v, str | int | float | bool) for v in found["parameters"].values())
    assert httpx.get(f"{url}/v2/health/live").json()["live"] is True
    assert httpx.get(f"{url}/v2/health/ready").json()["ready"] is True
