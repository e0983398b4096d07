"""The V2 inference protocol in JSON: named numpy arrays to and from what is sent.

Open Inference Protocol, "HTTP/REST" (KServe, Triton, MLServer). A tensor is
{"name", "shape", "datatype", "data"}, its data flat or nested, last axis fastest. The binary
extension and FP16/BF16, which exist in binary alone, are refused by name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from buckler.errors import DataError

_DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP32": np.float32,
    "FP64": np.float64,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_BYTES = "BYTES"

Arrays = dict[str, np.ndarray]
"""By name, in order. BYTES are arrays of dtype object that hold str."""


@dataclass(frozen=True)
class InferRequest:
    """What a client asks: its inputs, and the outputs it wants (none named: all)."""

    inputs: Arrays
    outputs: tuple[str, ...] = ()
    id: str = ""


def infer_request(
    inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = (), id: str = ""
) -> dict[str, object]:
    """The body of POST /v2/models/NAME/infer. Raises: DataError for what JSON cannot say."""
    body: dict[str, object] = {"inputs": [_to_json(*pair) for pair in inputs.items()]}
    if outputs:
        body["outputs"] = [{"name": name} for name in outputs]
    return {"id": id, **body} if id else body


def read_infer_request(value: object) -> InferRequest:
    """Raises: DataError naming the first thing wrong."""
    body = _object(value, "an inference request")
    asked = body.get("outputs", [])
    if not isinstance(asked, list):
        raise DataError(f"outputs must be a list of objects. Got {_kind(asked)}")
    names = tuple(_name(_object(each, "an output")) for each in asked)
    return InferRequest(_tensors(body, "inputs"), names, _text(body.get("id", ""), "id"))


def infer_response(
    model: str, outputs: Mapping[str, np.ndarray], version: str = "", id: str = ""
) -> dict[str, object]:
    """The answer to an inference request. Raises: DataError for what JSON cannot say."""
    extra = {"model_version": version, "id": id}
    tensors = [_to_json(*pair) for pair in outputs.items()]
    return {
        "model_name": model,
        **{key: value for key, value in extra.items() if value},
        "outputs": tensors,
    }


def read_infer_response(value: object) -> Arrays:
    """The outputs by name. Raises: DataError naming the first thing wrong."""
    return _tensors(_object(value, "an inference response"), "outputs")


def _to_json(name: str, array: np.ndarray) -> dict[str, object]:
    if array.dtype.kind in "OU":
        datatype = _BYTES
        if not all(isinstance(each, str) for each in array.ravel().tolist()):
            raise DataError(f"the tensor {name!r} may hold numbers, or text alone")
    elif array.dtype in _NAMES:
        datatype = _NAMES[array.dtype]
    else:
        allowed = ", ".join(map(str, _NAMES))
        raise DataError(f"the tensor {name!r} must be of {allowed} or text. Got {array.dtype}")
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        raise DataError(f"the tensor {name!r} holds NaN or infinity, which are no JSON")
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": datatype,
        "data": array.ravel().tolist(),
    }


def _tensors(body: dict[str, object], key: str) -> Arrays:
    parts = body.get(key)
    if not isinstance(parts, list) or not parts:
        raise DataError(f"{key} must be a list of one or more tensors. Got {_kind(parts)}")
    found: Arrays = {}
    for part in parts:
        tensor = _object(part, "a tensor")
        name = _name(tensor)
        if name in found:
            raise DataError(f"each tensor needs its own name. Got {name!r} twice")
        found[name] = _from_json(name, tensor)
    return found


def _from_json(name: str, tensor: dict[str, object]) -> np.ndarray:
    parameters = tensor.get("parameters")
    if isinstance(parameters, dict) and "binary_data_size" in parameters:
        raise DataError(f"the tensor {name!r} must be JSON: binary data are not taken")
    datatype, shape, data = tensor.get("datatype"), tensor.get("shape"), tensor.get("data")
    if not isinstance(datatype, str) or datatype not in {*_DTYPES, _BYTES}:
        allowed = ", ".join([*_DTYPES, _BYTES])
        raise DataError(f"the datatype of {name!r} must be one of {allowed}. Got {datatype!r}")
    if not isinstance(shape, list) or not all(type(d) is int and d >= 0 for d in shape):
        raise DataError(f"the shape of {name!r} must be a list of whole numbers. Got {shape!r}")
    if not isinstance(data, list):
        raise DataError(f"the data of {name!r} must be a list. Got {_kind(data)}")
    flat = _flat(data)
    if len(flat) != math.prod(shape):
        raise DataError(
            f"the data of {name!r} must be {math.prod(shape)} values, for the shape {shape}. "
            f"Got {len(flat)}"
        )
    return _array(name, datatype, flat).reshape(shape)


def _array(name: str, datatype: str, flat: list[object]) -> np.ndarray:
    allowed: set[type] = {int}
    if datatype == _BYTES:
        allowed = {str}
    elif datatype == "BOOL":
        allowed = {bool}
    elif datatype.startswith("FP"):
        allowed = {int, float}
    strange = set(map(type, flat)) - allowed
    if strange:
        kinds = ", ".join(sorted(kind.__name__ for kind in strange))
        raise DataError(f"the data of {name!r} must be {datatype} values. Got {kinds}")
    if datatype == _BYTES:
        return np.array(flat, dtype=object)
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype=_DTYPES[datatype])
    except OverflowError:
        raise DataError(f"the data of {name!r} hold a number too large for {datatype}") from None
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        raise DataError(f"the data of {name!r} hold a number too large for {datatype}, or NaN")
    return array


def _flat(data: list[object]) -> list[object]:
    while any(isinstance(part, list) for part in data):
        data = list(chain.from_iterable(p if isinstance(p, list) else [p] for p in data))
    return data


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise DataError(f"{what} must be a JSON object. Got {_kind(value)}")
    return value


def _name(tensor: dict[str, object]) -> str:
    name = _text(tensor.get("name"), "the name of a tensor")
    if not name:
        raise DataError("each tensor needs a name. Got none")
    return name


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} must be text. Got {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
