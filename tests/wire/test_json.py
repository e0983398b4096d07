"""The V2 codec in JSON: what goes out comes back, and what is wrong is named."""

import json

import numpy as np
import pytest

from buckler import wire
from buckler.errors import DataError

KINDS = [np.bool_, np.uint8, np.int8, np.int32, np.int64, np.uint64, np.float32, np.float64]


def test_a_request_by_hand() -> None:
    """The example of the protocol's own text."""
    body = wire.infer_request(
        {"input0": np.array([[1, 2], [3, 4]], np.uint32)}, ["output0"], "42"
    ).head
    assert body == {
        "id": "42",
        "inputs": [{"name": "input0", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]}],
        "outputs": [{"name": "output0"}],
    }
    found = wire.read_infer_request(json.loads(json.dumps(body)))
    assert (found.id, found.outputs, list(found.inputs)) == ("42", ("output0",), ["input0"])
    assert found.inputs["input0"].dtype == np.uint32


def test_arrays_come_back_bit_for_bit() -> None:
    """Of every datatype, at its ends, in 1 to 3 dimensions, none among them."""
    rng = np.random.default_rng(0)
    for kind in KINDS:
        for shape in ((3,), (2, 3), (2, 1, 4), (0, 5), (0,)):
            bits = rng.integers(0, 256, (*shape, np.dtype(kind).itemsize), dtype=np.uint8)
            array = bits.view(kind).reshape(shape) if kind is not np.bool_ else bits[..., 0] > 99
            if array.dtype.kind == "f":
                array = np.where(np.isfinite(array), array, np.finfo(kind).max)
            elif array.dtype.kind in "iu" and array.size:
                array.flat[0], array.flat[-1] = np.iinfo(kind).min, np.iinfo(kind).max
            sent = json.dumps(wire.infer_response("m", {"y": array}, "1").head, allow_nan=False)
            found = wire.read_infer_response(json.loads(sent)).outputs["y"]
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()


def test_text_comes_back() -> None:
    names = np.array([["cat"], ["toaster"]], dtype=object)
    body = wire.infer_response("m", {"label": names}).head
    assert body["outputs"][0]["datatype"] == "BYTES"
    found = wire.read_infer_response(body).outputs["label"]
    assert found.tolist() == names.tolist()
    body = wire.infer_response("m", {"label": np.array(["cat"])}).head
    assert body["outputs"][0]["data"] == ["cat"]


def test_nested_data_is_read_as_flat() -> None:
    tensor = {"name": "y", "shape": [2, 1, 2], "datatype": "FP32", "data": [[[1, 2]], [[3, 4]]]}
    found = wire.read_infer_response({"outputs": [tensor]}).outputs["y"]
    np.testing.assert_array_equal(found, np.array([[[1, 2]], [[3, 4]]], np.float32))


GOOD = {"name": "y", "shape": [2], "datatype": "FP32", "data": [1, 2]}
LARGE = 2**40 + 1
BAD = [
    ([], "must be a JSON object. Got list"),
    ({}, "outputs must be a list of one or more tensors. Got nothing"),
    ({"outputs": [GOOD, GOOD]}, "Got 'y' twice"),
    ({"outputs": [3]}, "a tensor must be a JSON object. Got int"),
    ({"outputs": [{**GOOD, "name": ""}]}, "needs a name"),
    ({"outputs": [{**GOOD, "name": 3}]}, "must be text. Got int"),
    ({"outputs": [{**GOOD, "datatype": "FP17"}]}, "must be one of BOOL, .*Got 'FP17'"),
    ({"outputs": [{**GOOD, "datatype": ["FP32"]}]}, "must be one of BOOL"),
    ({"outputs": [{**GOOD, "datatype": "FP16"}]}, "must be binary: FP16 is no JSON"),
    ({"outputs": [{**GOOD, "datatype": "BF16"}]}, "must be binary: BF16 is no JSON"),
    ({"outputs": [{**GOOD, "shape": [-2]}]}, "list of whole numbers >= 0"),
    ({"outputs": [{**GOOD, "shape": [True, 2]}]}, "list of whole numbers"),
    ({"outputs": [{**GOOD, "shape": None}]}, "list of whole numbers >= 0. Got None"),
    ({"outputs": [{**GOOD, "shape": [3]}]}, r"must be 3 values, for the shape \[3\]. Got 2"),
    ({"outputs": [{**GOOD, "shape": [LARGE]}]}, "is too large to be"),
    ({"outputs": [{**GOOD, "shape": [0, LARGE]}]}, "is too large to be"),
    ({"outputs": [{**GOOD, "shape": [2**32, 2**32]}]}, "is too large to be"),
    ({"outputs": [{**GOOD, "shape": [1] * 33}]}, "at most 32 axes. Got 33"),
    ({"outputs": [{**GOOD, "data": "12"}]}, "must be a list. Got str"),
    ({"outputs": [{**GOOD, "data": None}]}, "must be a list. Got nothing"),
    ({"outputs": [{**GOOD, "data": [1, [2]]}]}, "must be FP32 values. Got list"),
    ({"outputs": [{**GOOD, "shape": [2, 1], "data": [[1], 2]}]}, "nested as the shape"),
    ({"outputs": [{**GOOD, "shape": [2, 1], "data": [[1], [2, 3]]}]}, "nested as the shape"),
    ({"outputs": [{**GOOD, "data": [1, True]}]}, "must be FP32 values. Got bool"),
    ({"outputs": [{**GOOD, "data": [1, None]}]}, "must be FP32 values. Got NoneType"),
    ({"outputs": [{**GOOD, "data": [1, 1e300]}]}, "too large for FP32"),
    ({"outputs": [{**GOOD, "data": [1, float("nan")]}]}, "or NaN"),
    ({"outputs": [{**GOOD, "data": [1, 10**400]}]}, "too large for FP32"),
    ({"outputs": [{**GOOD, "datatype": "INT8", "data": [1, 200]}]}, "too large for INT8"),
    ({"outputs": [{**GOOD, "datatype": "UINT8", "data": [1, -1]}]}, "too large for UINT8"),
    ({"outputs": [{**GOOD, "datatype": "INT8", "data": [1, 2.0]}]}, "INT8 values. Got float"),
    ({"outputs": [{**GOOD, "datatype": "BYTES", "data": ["a", 2]}]}, "BYTES values. Got int"),
    ({"outputs": [{**GOOD, "parameters": [1]}]}, "of the tensor 'y' must be a JSON object"),
    ({"outputs": [{**GOOD, "parameters": {"a": [1]}}]}, "text, a number, true or false. Got list"),
    ({"outputs": [{**GOOD, "parameters": {"a": None}}]}, "'a' of the tensor 'y' must be text"),
    ({"outputs": [{**GOOD, "parameters": {"shared_memory_region": "r"}}]}, "shared memory is not"),
    ({"outputs": [GOOD], "parameters": {"a": {}}}, "'a' of the response must be text, a number"),
    ({"outputs": [GOOD], "parameters": {"a": float("inf")}}, "must be finite. Got inf"),
    ({"outputs": [GOOD], "id": 3}, "id must be text. Got int"),
]
BASE64 = {
    "name": "x",
    "shape": [2],
    "datatype": "BYTES",
    "parameters": {"content_type": "base64"},
    "data": ["/9g=", ""],
}


def test_bytes_in_json_are_base64() -> None:
    found = wire.read_infer_request({"inputs": [BASE64]}).inputs["x"]
    assert found.tolist() == [b"\xff\xd8", b""]
    assert wire.infer_request({"x": found}).head["inputs"] == [BASE64]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data": ["/9g=", "?"]}, "must be base64"),
        ({"data": ["/9g=", "/9g"]}, "must be base64"),
        ({"data": ["/9g=", "é"]}, "must be base64"),
        ({"parameters": {"content_type": "png"}}, "must be str or base64. Got 'png'"),
        ({"parameters": {"content_type": True}}, "must be str or base64. Got True"),
    ],
)
def test_base64_that_is_none(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        wire.read_infer_request({"inputs": [{**BASE64, **change}]})


def test_a_request_says_what_it_wants() -> None:
    outputs = [{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}]
    found = wire.read_infer_request({"inputs": [GOOD], "outputs": outputs, "parameters": None})
    assert [found.wants_binary(name) for name in "ab"] == [True, False]
    asked = {
        "inputs": [GOOD],
        "parameters": {"binary_data_output": True, "timeout": 5, "mine": "x"},
    }
    outputs[0]["parameters"] = {"binary_data": False}
    found = wire.read_infer_request({**asked, "outputs": outputs})
    assert [found.wants_binary(name) for name in "ab"] == [False, True]
    assert found.parameters == {"binary_data_output": True, "timeout": 5, "mine": "x"}
    sent = wire.infer_request({"y": np.ones(1)}, parameters={"timeout": 5}, binary_output=True)
    assert sent.head["parameters"] == {"timeout": 5, "binary_data_output": True}


def test_a_response_says_what_it_is() -> None:
    sent = wire.infer_response("m", {"y": np.ones(1)}, "7", "id", parameters={"bundle": "ab"})
    found = wire.read_infer_response(sent.head)
    assert (found.model, found.version, found.id) == ("m", "7", "id")
    assert found.parameters == {"bundle": "ab"}


@pytest.mark.parametrize("name", [*wire.RESERVED, "triton_x"])
def test_names_of_the_protocol_are_its_own(name: str) -> None:
    if name != "timeout":
        with pytest.raises(DataError, match="the protocol's own"):
            wire.infer_request({"y": np.ones(1)}, parameters={name: 1})


@pytest.mark.parametrize(("value", "sentence"), BAD)
def test_what_is_wrong_is_named(value: object, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        wire.read_infer_response(value)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([1.0, np.nan], np.float32), "NaN or infinity"),
        (np.zeros(2, np.float16), "FP16, which exists in binary only"),
        (np.zeros(2, np.complex64), "Got complex64"),
        (np.array([b"a", "b"], dtype=object), "bytes alone"),
        (np.array([1, "a"], dtype=object), "text alone"),
    ],
)
def test_what_json_cannot_say_is_not_sent(array: np.ndarray, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        wire.infer_request({"x": array})


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"outputs": 3}, "must be a list of objects"),
        ({"outputs": [{"name": "a"}, {"name": "a"}]}, "asked for once"),
        ({"outputs": [{"name": "a", "parameters": {"binary_data": 1}}]}, "must be true or false"),
        ({"outputs": [{"name": "a", "parameters": {"classification": 2}}]}, "as it is"),
        ({"outputs": [{"name": "a", "parameters": {"shared_memory_region": "r"}}]}, "as it is"),
        ({"parameters": {"binary_data_output": "yes"}}, "must be true or false. Got 'yes'"),
        ({"id": 3}, "id must be text. Got int"),
    ],
)
def test_a_request_with_strange_parts(extra: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        wire.read_infer_request({"inputs": [GOOD], **extra})
