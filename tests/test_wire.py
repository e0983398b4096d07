"""The V2 codec: what goes out comes back, and what is wrong is named."""

import json

import numpy as np
import pytest

from buckler import wire
from buckler.errors import DataError

KINDS = [np.bool_, np.uint8, np.int8, np.int32, np.int64, np.uint64, np.float32, np.float64]


def test_a_request_by_hand() -> None:
    """The example of the protocol's own text."""
    body = wire.infer_request({"input0": np.array([[1, 2], [3, 4]], np.uint32)}, ["output0"], "42")
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
            sent = json.dumps(wire.infer_response("m", {"y": array}, "1"), allow_nan=False)
            found = wire.read_infer_response(json.loads(sent))["y"]
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()


def test_text_comes_back() -> None:
    names = np.array([["cat"], ["toaster"]], dtype=object)
    body = wire.infer_response("m", {"label": names})
    assert body["outputs"][0]["datatype"] == "BYTES"
    found = wire.read_infer_response(body)["label"]
    assert found.tolist() == names.tolist()
    assert wire.infer_response("m", {"label": np.array(["cat"])})["outputs"][0]["data"] == ["cat"]


def test_nested_data_is_read_as_flat() -> None:
    tensor = {"name": "y", "shape": [2, 1, 2], "datatype": "FP32", "data": [[[1, 2]], [[3, 4]]]}
    found = wire.read_infer_response({"outputs": [tensor]})["y"]
    np.testing.assert_array_equal(found, np.array([[[1, 2]], [[3, 4]]], np.float32))


GOOD = {"name": "y", "shape": [2], "datatype": "FP32", "data": [1, 2]}
BAD = [
    ([], "must be a JSON object. Got list"),
    ({}, "outputs must be a list of one or more tensors. Got nothing"),
    ({"outputs": [GOOD, GOOD]}, "Got 'y' twice"),
    ({"outputs": [3]}, "a tensor must be a JSON object. Got int"),
    ({"outputs": [{**GOOD, "name": ""}]}, "needs a name"),
    ({"outputs": [{**GOOD, "name": 3}]}, "must be text. Got int"),
    ({"outputs": [{**GOOD, "datatype": "FP16"}]}, "must be one of BOOL, .*Got 'FP16'"),
    ({"outputs": [{**GOOD, "datatype": ["FP32"]}]}, "must be one of BOOL"),
    ({"outputs": [{**GOOD, "shape": [-2]}]}, "list of whole numbers"),
    ({"outputs": [{**GOOD, "shape": [True, 2]}]}, "list of whole numbers"),
    ({"outputs": [{**GOOD, "shape": [3]}]}, r"must be 3 values, for the shape \[3\]. Got 2"),
    ({"outputs": [{**GOOD, "data": "12"}]}, "must be a list. Got str"),
    ({"outputs": [{**GOOD, "data": [1, True]}]}, "must be FP32 values. Got bool"),
    ({"outputs": [{**GOOD, "data": [1, None]}]}, "must be FP32 values. Got NoneType"),
    ({"outputs": [{**GOOD, "data": [1, 1e300]}]}, "too large for FP32"),
    ({"outputs": [{**GOOD, "data": [1, float("nan")]}]}, "or NaN"),
    ({"outputs": [{**GOOD, "data": [1, 10**400]}]}, "too large for FP32"),
    ({"outputs": [{**GOOD, "datatype": "INT8", "data": [1, 200]}]}, "too large for INT8"),
    ({"outputs": [{**GOOD, "datatype": "INT8", "data": [1, 2.0]}]}, "INT8 values. Got float"),
    ({"outputs": [{**GOOD, "datatype": "BYTES", "data": ["a", 2]}]}, "BYTES values. Got int"),
    ({"outputs": [{**GOOD, "parameters": {"binary_data_size": 8}}]}, "binary data are not taken"),
]


@pytest.mark.parametrize(("value", "sentence"), BAD)
def test_what_is_wrong_is_named(value: object, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        wire.read_infer_response(value)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([1.0, np.nan], np.float32), "NaN or infinity"),
        (np.zeros(2, np.float16), "Got float16"),
        (np.array([1, "a"], dtype=object), "text alone"),
    ],
)
def test_what_json_cannot_say_is_not_sent(array: np.ndarray, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        wire.infer_request({"x": array})


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [({"outputs": 3}, "must be a list of objects"), ({"id": 3}, "id must be text. Got int")],
)
def test_a_request_with_strange_parts(extra: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        wire.read_infer_request({"inputs": [GOOD], **extra})
