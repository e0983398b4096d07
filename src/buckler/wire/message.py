"""Requests and responses: JSON, and the bytes of tensors behind it."""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from buckler.errors import DataError
from buckler.wire.datatypes import BYTES, DTYPES
from buckler.wire.tensor import Arrays, from_bytes, from_wire, to_binary, to_json
from buckler.wire.words import (
    Parameters,
    as_object,
    as_text,
    flag,
    kind,
    name_of,
    parameters_of,
    short,
)

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_BINARY_OUTPUT: Final = "binary_data_output"
_BINARY: Final = "binary_data"
_CLASSES: Final = "classification"
RESERVED: Final = (
    *("sequence_id", "sequence_start", "sequence_end"),
    *("priority", "timeout", "headers", _BINARY_OUTPUT),
)
"""Names of request parameters with a meaning of their own; so is every triton_…"""


@dataclass(frozen=True)
class InferRequest:
    """What a client asks.

    outputs: the names it wants, in its order; none named: all.
    binary: of those, which in binary and which not; `binary_output` is for those it does not name.
    """

    inputs: Arrays
    outputs: tuple[str, ...] = ()
    id: str = ""
    parameters: Parameters = field(default_factory=dict)
    binary: Mapping[str, bool] = field(default_factory=dict)
    binary_output: bool = False

    def wants_binary(self, output: str) -> bool:
        return self.binary.get(output, self.binary_output)


@dataclass(frozen=True)
class InferResponse:
    """What a server answers."""

    outputs: Arrays
    model: str = ""
    version: str = ""
    id: str = ""
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """JSON, and the tensors in binary that follow it."""

    head: dict[str, object]
    tail: tuple[memoryview, ...] = ()

    def frame(
        self, dumps: Callable[[object], bytes] = lambda value: json.dumps(value).encode()
    ) -> tuple[bytes, dict[str, str]]:
        """The body, and the headers that say what it is."""
        head = dumps(self.head)
        if not self.tail:
            return head, {"Content-Type": "application/json"}
        headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
        return b"".join((head, *self.tail)), headers


def infer_request(
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str] = (),
    id: str = "",
    *,
    parameters: Mapping[str, str | int | float | bool] | None = None,
    binary: bool = False,
    binary_output: bool = False,
) -> Message:
    """The body of POST /v2/models/NAME/infer.

    binary: the inputs are sent so; FP16 and BF16 must be.
    binary_output: ask for the outputs so.

    Raises: DataError for what cannot be sent, and for a parameter with a reserved name.
    """
    given = dict(parameters or {})
    for name in given:
        if name != "timeout" and (name in RESERVED or name.startswith("triton_")):
            raise DataError(f"the parameter name {name!r} is the protocol's own: take another")
    if binary_output:
        given[_BINARY_OUTPUT] = True
    head: dict[str, object] = {"id": id} if id else {}
    if given:
        head["parameters"] = parameters_of({"parameters": given}, "the request")
    head["inputs"], tail = _pack(inputs, inputs if binary else ())
    if outputs:
        head["outputs"] = [{"name": name} for name in outputs]
    return Message(head, tail)


def read_infer_request(value: object, tail: memoryview | bytes = b"") -> InferRequest:
    """The request of the JSON `value` and the bytes behind it.

    Raises: DataError naming the first thing wrong.
    """
    body = as_object(value, "an inference request")
    parameters = parameters_of(body, "the request")
    asked = body.get("outputs")
    if asked is not None and not isinstance(asked, list):
        raise DataError(f"outputs must be a list of objects. Got {kind(asked)}")
    names: list[str] = []
    binary: dict[str, bool] = {}
    for each in asked or ():
        output = as_object(each, "an output")
        name = name_of(output)
        own = parameters_of(output, f"the output {short(name)}")
        if _CLASSES in own or "shared_memory_region" in own:
            raise DataError(
                f"the output {short(name)} can be asked for as it is: neither as a "
                f"classification nor in shared memory. Got {short(own)}"
            )
        wanted = flag(own, _BINARY)
        if wanted is not None:
            binary[name] = wanted
        names.append(name)
    if len(set(names)) < len(names):
        raise DataError("each output may be asked for once. Got one twice")
    return InferRequest(
        inputs=_unpack(body, "inputs", memoryview(tail)),
        outputs=tuple(names),
        id=_optional(body, "id"),
        parameters=parameters,
        binary=binary,
        binary_output=bool(flag(parameters, _BINARY_OUTPUT)),
    )


def raw_request(
    body: bytes | bytearray, name: str, datatype: str, row: tuple[int, ...]
) -> InferRequest:
    """The request of a body that is one tensor of rows alone: its header length is 0.

    BYTES: the whole body is the one element. Raises: DataError unless whole rows fill the body.
    """
    data = memoryview(body)
    if datatype == BYTES:
        array = np.empty(1, dtype=object)
        array[0] = bytes(data)
        return InferRequest({name: array}, binary_output=True)
    size = DTYPES[datatype].itemsize * math.prod(row)
    if not len(data) or len(data) % size:
        raise DataError(
            f"a body that is one tensor must be rows of {size} bytes, {datatype} of the shape "
            f"{list(row)}. Got {len(data)} bytes"
        )
    n = len(data) // size
    array = from_bytes(name, datatype, (n, *row), n * math.prod(row), data)
    return InferRequest({name: array}, binary_output=True)


def infer_response(
    model: str,
    outputs: Mapping[str, np.ndarray],
    version: str = "",
    id: str = "",
    *,
    parameters: Mapping[str, str | int | float | bool] | None = None,
    binary: Collection[str] = (),
) -> Message:
    """The answer to an inference request; binary: names of the outputs sent so.

    Raises: DataError for what cannot be sent.
    """
    head: dict[str, object] = {"model_name": model}
    if version:
        head["model_version"] = version
    if id:
        head["id"] = id
    if parameters:
        head["parameters"] = parameters_of({"parameters": dict(parameters)}, "the response")
    head["outputs"], tail = _pack(outputs, binary)
    return Message(head, tail)


def read_infer_response(value: object, tail: memoryview | bytes = b"") -> InferResponse:
    """The answer of the JSON `value` and the bytes behind it.

    Raises: DataError naming the first thing wrong.
    """
    body = as_object(value, "an inference response")
    return InferResponse(
        outputs=_unpack(body, "outputs", memoryview(tail)),
        model=_optional(body, "model_name"),
        version=_optional(body, "model_version"),
        id=_optional(body, "id"),
        parameters=parameters_of(body, "the response"),
    )


def unframe(
    body: bytes | bytearray,
    header_length: str | None,
    loads: Callable[[bytes | bytearray], object] = json.loads,
) -> tuple[object, memoryview]:
    """The JSON of a body, and the bytes behind it.

    header_length: the value of Inference-Header-Content-Length; None: all is JSON.

    Raises: DataError for a length that is none, and for what is no JSON.
    """
    length = len(body)
    if header_length is not None:
        plain = header_length.isascii() and header_length.isdecimal() and len(header_length) <= 18
        if not plain or int(header_length) > length:
            raise DataError(
                f"{HEADER_LENGTH} must be a whole number up to {length}, the bytes of the body. "
                f"Got {short(header_length)}"
            )
        length = int(header_length)
    head = body if length == len(body) else body[:length]
    try:
        return loads(head), memoryview(body)[length:]
    except (ValueError, RecursionError) as error:
        raise DataError(f"the body must be JSON: {short(str(error))[1:-1]}") from None


def _pack(
    arrays: Mapping[str, np.ndarray], binary: Collection[str]
) -> tuple[list[dict[str, object]], tuple[memoryview, ...]]:
    heads, tail = [], []
    for name, array in arrays.items():
        if name in binary:
            head, data = to_binary(name, array)
            tail.append(data)
        else:
            head = to_json(name, array)
        heads.append(head)
    return heads, tuple(tail)


def _unpack(body: dict[str, object], key: str, tail: memoryview) -> Arrays:
    parts = body.get(key)
    if not isinstance(parts, list) or not parts:
        raise DataError(f"{key} must be a list of one or more tensors. Got {kind(parts)}")
    found: Arrays = {}
    for part in parts:
        name, array, taken = from_wire(as_object(part, "a tensor"), tail)
        if name in found:
            raise DataError(f"each tensor needs its own name. Got {short(name)} twice")
        found[name] = array
        tail = tail[taken:]
    if len(tail):
        raise DataError(f"the body must end with its last tensor. Got {len(tail)} bytes more")
    return found


def _optional(body: dict[str, object], key: str) -> str:
    found = body.get(key)
    return "" if found is None else as_text(found, key)
