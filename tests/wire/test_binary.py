"""The binary extension: bytes behind the JSON, both ways, mixed with JSON, none left over."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from buckler import wire
from buckler.errors import DataError

NUMBERS = st.sampled_from([np.dtype(d) for d in "?bBhHiIqQefd"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
TEXTS = st.one_of(
    hnp.arrays(object, SHAPES, elements=st.text(st.characters(codec="utf-8"), max_size=8)),
    hnp.arrays(object, SHAPES, elements=st.binary(max_size=8)),
)
NAMED = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.one_of(NUMBERS.flatmap(lambda d: hnp.arrays(d, SHAPES)), TEXTS),
    min_size=1,
    max_size=4,
)


def sent(message: wire.Message) -> tuple[object, memoryview]:
    body, headers = message.frame()
    return wire.unframe(body, headers.get(wire.HEADER_LENGTH))


def alike(found: np.ndarray, array: np.ndarray, binary: bool) -> bool:
    if array.dtype.kind != "O":
        same = found.dtype == array.dtype and found.shape == array.shape
        return same and found.tobytes() == array.tobytes()
    want = array.tolist() if array.ndim else [array.item()]
    got = found.tolist() if array.ndim else [found.item()]
    if binary:
        want = np.vectorize(lambda e: e.encode() if isinstance(e, str) else e, otypes="O")(array)
        got, want = found.ravel().tolist(), want.ravel().tolist()
    return found.shape == array.shape and got == want


@given(NAMED, st.data())
def test_whatever_goes_out_comes_back_bit_for_bit(
    arrays: dict[str, np.ndarray], data: st.DataObject
) -> None:
    must = {
        name
        for name, array in arrays.items()
        if array.dtype == np.float16 or (array.dtype.kind == "f" and not np.isfinite(array).all())
    }
    binary = must | data.draw(st.sets(st.sampled_from(sorted(arrays))))
    message = wire.infer_response("m", arrays, binary=binary)
    assert bool(message.tail) == bool(binary)
    found = wire.read_infer_response(*sent(message)).outputs
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert alike(found[name], array, name in binary)


def test_a_request_by_hand() -> None:
    """The example of the extension's own text: two tensors, one in JSON."""
    message = wire.infer_request({"x": np.array([[1.0, 2.0]], np.float32)}, ["y"], binary=True)
    body, headers = message.frame()
    head = int(headers[wire.HEADER_LENGTH])
    assert json.loads(body[:head])["inputs"] == [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    ]
    assert body[head:] == struct.pack("<ff", 1, 2)
    assert headers["Content-Type"] == "application/octet-stream"


def test_bfloat16_is_widened_exactly() -> None:
    values = np.array([0, -1.5, 3.140625, 1e38, np.inf], ml_dtypes.bfloat16)
    message = wire.infer_request({"x": values}, binary=True)
    found = wire.read_infer_request(*sent(message)).inputs["x"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float32))
    with pytest.raises(DataError, match="BF16, which exists in binary only"):
        wire.infer_request({"x": values})


def test_big_endian_arrays_are_sent_as_the_protocol_wants_them() -> None:
    found = wire.read_infer_request(
        *sent(wire.infer_request({"x": np.array([1, 2], ">i4")}, binary=True))
    )
    assert found.inputs["x"].tolist() == [1, 2]


def test_an_aligned_tensor_shares_the_memory_of_the_body() -> None:
    x = np.arange(1000, dtype=np.float32)
    message = wire.infer_request({"x": x}, binary=True)
    head = wire.Message(message.head).frame()[0]
    body = bytearray(head + b" " * (-len(head) % 16)) + message.tail[0]
    value, tail = wire.unframe(body, str(len(body) - x.nbytes))
    found = wire.read_infer_request(value, tail).inputs["x"]
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))
    assert found.flags.writeable
    shifted = bytearray(b" ") + body
    value, tail = wire.unframe(shifted, str(len(shifted) - x.nbytes))
    found = wire.read_infer_request(value, tail).inputs["x"]
    assert found.flags.aligned
    np.testing.assert_array_equal(found, x)


def test_a_body_that_is_one_tensor() -> None:
    x = np.arange(6, dtype=np.float32)
    found = wire.raw_request(x.tobytes(), "input", "FP32", (3,))
    np.testing.assert_array_equal(found.inputs["input"], x.reshape(2, 3))
    assert found.wants_binary("anything")
    found = wire.raw_request(b"\xff\xd8", "input", "BYTES", ())
    assert found.inputs["input"].tolist() == [b"\xff\xd8"]
    for body in (b"", b"123", x.tobytes()[:-4]):
        with pytest.raises(DataError, match=r"rows of 12 bytes, FP32 of the shape \[3\]. Got"):
            wire.raw_request(body, "input", "FP32", (3,))


def tensor(size: object, **change: object) -> dict[str, object]:
    parameters = {"binary_data_size": size}
    return {"name": "x", "shape": [2], "datatype": "FP32", "parameters": parameters, **change}


TEXT = {"datatype": "BYTES"}
BAD = [
    (tensor(8), b"1234567", "must be at most 7, the bytes left. Got 8"),
    (tensor(8), b"123456789", "must end with its last tensor. Got 1 bytes more"),
    (tensor(4), b"1234", r"must be 8 bytes, for FP32 of the shape \[2\]. Got 4"),
    (tensor(-8), b"12345678", "whole number >= 0. Got -8"),
    (tensor(8.0), b"12345678", "whole number >= 0. Got 8.0"),
    (tensor(True), b"1", "whole number >= 0. Got True"),
    (tensor("8"), b"12345678", "whole number >= 0. Got '8'"),
    (tensor(8, data=[1, 2]), b"12345678", "must have data or binary_data_size. Got both"),
    (tensor(2, datatype="BOOL"), b"\x01\x02", "must be bytes 0 or 1, for BOOL"),
    (tensor(7, **TEXT), b"\0\0\0\0\0\0\0", "must be 2 elements, each behind its length. Got 7"),
    (tensor(8, **TEXT), b"\x05\0\0\0\0\0\0\0", "end within element 0 of 2"),
    (tensor(8, **TEXT), b"\x01\0\0\0\0\0\0\0", "end within element 1 of 2"),
    (tensor(8, **TEXT), b"\0\0\0\0\xff\xff\xff\xff", "end within element 1 of 2"),
    (tensor(9, **TEXT), b"\0\0\0\0\0\0\0\0x", "must end behind element 1. Got 1 bytes more"),
    (tensor(8, **TEXT, shape=[2**39]), b"\0" * 8, "must be 549755813888 elements"),
    (tensor(8, shape=[2**39]), b"\0" * 8, "must be 2199023255552 bytes"),
    (tensor(0, **TEXT, shape=[0]), b"x", "must end with its last tensor"),
]


@pytest.mark.parametrize(("value", "tail", "sentence"), BAD)
def test_what_is_wrong_is_named(value: dict[str, object], tail: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        wire.read_infer_request({"inputs": [value]}, tail)


def test_bytes_without_a_tensor_are_refused() -> None:
    good = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
    with pytest.raises(DataError, match="Got 3 bytes more"):
        wire.read_infer_request({"inputs": [good]}, b"abc")


@pytest.mark.parametrize("length", ["", "-1", "3", "1e1", " 2", "9" * 30, "²", "two"])
def test_a_header_length_that_is_none(length: str) -> None:
    with pytest.raises(DataError, match="must be a whole number up to 2, the bytes of the body"):
        wire.unframe(b"{}", length)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(DataError, match=r"^the body must be JSON: "):
        wire.unframe(body, None)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [([1], "numbers, text or bytes. Got int"), (["\ud800"], "no Unicode")],
)
def test_what_cannot_be_packed_is_not_sent(values: list[object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        wire.infer_request({"x": np.array(values, object)}, binary=True)
