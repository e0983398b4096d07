"""One tensor: {"name", "shape", "datatype", "parameters", "data"}, or bytes behind the JSON."""

import base64
import binascii
import struct
from itertools import chain
from typing import Final

import numpy as np

from buckler.errors import DataError
from buckler.wire.datatypes import BF16, BINARY_ONLY, BYTES, DATATYPES, DTYPES, datatype_of, widened
from buckler.wire.words import Parameters, kind, name_of, parameters_of, short

Arrays = dict[str, np.ndarray]
"""By name, in order. BYTES are of dtype object: str where they came as text, bytes where they
came in binary or base64. BF16 is read as float32."""

SIZE: Final = "binary_data_size"
_BASE64: Final = {"content_type": "base64"}
_SHARED: Final = "shared_memory_region"
_MOST_AXES = 32
_MOST_VALUES = 2**40
_LENGTH = struct.Struct("<I")


def to_json(name: str, array: np.ndarray) -> dict[str, object]:
    """The tensor with its data in JSON. Raises: DataError for what JSON cannot say."""
    datatype = datatype_of(name, array)
    if datatype in BINARY_ONLY:
        raise DataError(f"the tensor {name!r} is {datatype}, which exists in binary only")
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        raise DataError(f"the tensor {name!r} holds NaN or infinity, which are no JSON")
    data = array.ravel().tolist()
    extra: dict[str, object] = {}
    if datatype == BYTES and _all_bytes(name, data):
        data = [base64.b64encode(each).decode() for each in data]
        extra = {"parameters": _BASE64}
    return {"name": name, "shape": list(array.shape), "datatype": datatype, **extra, "data": data}


def to_binary(name: str, array: np.ndarray) -> tuple[dict[str, object], memoryview]:
    """The tensor's JSON and the bytes that follow."""
    datatype = datatype_of(name, array)
    if datatype == BYTES:
        data = array.ravel().tolist()
        packed = memoryview(b"".join(_with_length(name, each) for each in data))
    else:
        dtype = array.dtype if datatype == BF16 else DTYPES[datatype]
        whole = np.ascontiguousarray(array, dtype).reshape(-1)
        packed = whole.view(np.uint8).data
    head: dict[str, object] = {
        "name": name,
        "shape": list(array.shape),
        "datatype": datatype,
        "parameters": {SIZE: packed.nbytes},
    }
    return head, packed


def from_wire(tensor: dict[str, object], tail: memoryview) -> tuple[str, np.ndarray, int]:
    """Name, array, and how many bytes of `tail` it took. The array shares memory with `tail`
    where that is aligned. Raises: DataError naming the first thing wrong."""
    name = name_of(tensor)
    parameters = parameters_of(tensor, f"the tensor {short(name)}")
    if _SHARED in parameters:
        raise DataError(f"the tensor {short(name)} must be sent: shared memory is not taken")
    datatype = _datatype(name, tensor.get("datatype"))
    shape, count = _shape(name, tensor.get("shape"))
    size = parameters.get(SIZE)
    if size is None:
        flat = _flat(name, tensor.get("data"), shape, count)
        return name, _from_values(name, datatype, flat, parameters).reshape(shape), 0
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise DataError(f"{SIZE} of {short(name)} must be a whole number >= 0. Got {short(size)}")
    if tensor.get("data") is not None:
        raise DataError(f"the tensor {short(name)} must have data or {SIZE}. Got both")
    if size > len(tail):
        raise DataError(
            f"{SIZE} of {short(name)} must be at most {len(tail)}, the bytes left. Got {size}"
        )
    return name, from_bytes(name, datatype, shape, count, tail[:size]), size


def from_bytes(
    name: str, datatype: str, shape: tuple[int, ...], count: int, data: memoryview
) -> np.ndarray:
    """The array that exactly fills `data`; count: the values that `shape` names."""
    if datatype == BYTES:
        return _elements(name, count, data).reshape(shape)
    dtype = DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise DataError(
            f"the data of {short(name)} must be {count * dtype.itemsize} bytes, for {datatype} of "
            f"the shape {list(shape)}. Got {len(data)}"
        )
    if datatype == "BOOL" and bool((np.frombuffer(data, np.uint8) > 1).any()):
        raise DataError(f"the data of {short(name)} must be bytes 0 or 1, for BOOL")
    array = np.frombuffer(data, dtype)
    if not array.flags.aligned:
        array = array.copy()
    return (widened(array) if datatype == BF16 else array).reshape(shape)


def _datatype(name: str, found: object) -> str:
    if not isinstance(found, str) or found not in DATATYPES:
        raise DataError(
            f"the datatype of {short(name)} must be one of {', '.join(DATATYPES)}. "
            f"Got {short(found)}"
        )
    return found


def _shape(name: str, found: object) -> tuple[tuple[int, ...], int]:
    """The shape, and how many values it names: counted before anything is allocated."""
    if not isinstance(found, list) or not all(type(d) is int and d >= 0 for d in found):
        raise DataError(
            f"the shape of {short(name)} must be a list of whole numbers >= 0. Got {short(found)}"
        )
    if len(found) > _MOST_AXES:
        raise DataError(
            f"the shape of {short(name)} must have at most {_MOST_AXES} axes. Got {len(found)}"
        )
    volume = 1  # zeros left out: (0, 2**60) is too large for an array too
    for d in found:
        volume *= d or 1
        if volume > _MOST_VALUES:
            raise DataError(f"the shape of {short(name)} is too large to be. Got {short(found)}")
    return tuple(found), 0 if 0 in found else volume


def _flat(name: str, data: object, shape: tuple[int, ...], count: int) -> list[object]:
    """The values, last axis fastest, of data that are flat or nested as `shape` says."""
    if not isinstance(data, list):
        raise DataError(f"the data of {short(name)} must be a list. Got {kind(data)}")
    for size in shape[1:]:
        if not data or not isinstance(data[0], list):
            break
        if not all(isinstance(part, list) and len(part) == size for part in data):
            raise DataError(
                f"the data of {short(name)} must be flat, or nested as the shape {list(shape)} says"
            )
        data = list(chain.from_iterable(data))
    if len(data) != count:
        raise DataError(
            f"the data of {short(name)} must be {count} values, for the shape {list(shape)}. "
            f"Got {len(data)}"
        )
    return data


def _from_values(
    name: str, datatype: str, flat: list[object], parameters: Parameters
) -> np.ndarray:
    if datatype in BINARY_ONLY:
        raise DataError(f"the data of {short(name)} must be binary: {datatype} is no JSON")
    _check_types(name, datatype, flat)
    if datatype == BYTES:
        return _objects(_from_base64(name, flat) if _is_base64(name, parameters) else flat)
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype=DTYPES[datatype])
    except OverflowError:
        raise DataError(
            f"the data of {short(name)} hold a number too large for {datatype}"
        ) from None
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        raise DataError(f"the data of {short(name)} hold a number too large for {datatype}, or NaN")
    return array


def _check_types(name: str, datatype: str, flat: list[object]) -> None:
    allowed: set[type] = {int}
    if datatype == BYTES:
        allowed = {str}
    elif datatype == "BOOL":
        allowed = {bool}
    elif datatype.startswith("FP"):
        allowed = {int, float}
    strange = set(map(type, flat)) - allowed
    if strange:
        kinds = ", ".join(sorted(each.__name__ for each in strange))
        raise DataError(f"the data of {short(name)} must be {datatype} values. Got {kinds}")


def _is_base64(name: str, parameters: Parameters) -> bool:
    given = parameters.get("content_type", "str")
    if given not in ("str", "base64"):
        raise DataError(
            f"the content_type of {short(name)} must be str or base64. Got {short(given)}"
        )
    return given == "base64"


def _from_base64(name: str, flat: list[object]) -> list[object]:
    try:
        return [base64.b64decode(str(each), validate=True) for each in flat]
    except (binascii.Error, ValueError):  # ValueError: text that is not ASCII
        raise DataError(f"the data of {short(name)} must be base64, as content_type says") from None


def _elements(name: str, count: int, data: memoryview) -> np.ndarray:
    """BYTES in binary: each element is its length as u32, then its bytes."""
    if _LENGTH.size * count > len(data):
        raise DataError(
            f"the data of {short(name)} must be {count} elements, each behind its length. "
            f"Got {len(data)} bytes"
        )
    found: list[object] = []
    at = 0
    for index in range(count):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(data, at)[0] if start <= len(data) else start
        if at > len(data):
            raise DataError(f"the data of {short(name)} end within element {index} of {count}")
        found.append(bytes(data[start:at]))
    if at != len(data):
        raise DataError(
            f"the data of {short(name)} must end behind element {count - 1}. "
            f"Got {len(data) - at} bytes more"
        )
    return _objects(found)


def _objects(values: list[object]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _all_bytes(name: str, data: list[object]) -> bool:
    """True: bytes; False: text. Raises: DataError for anything else, and both mixed."""
    kinds = set(map(type, data))
    if kinds - {str, bytes} or len(kinds) > 1:
        raise DataError(f"the tensor {name!r} may hold numbers, or text alone, or bytes alone")
    return kinds == {bytes}


def _with_length(name: str, element: object) -> bytes:
    if isinstance(element, str):
        try:
            element = element.encode()
        except UnicodeEncodeError:
            raise DataError(f"the tensor {name!r} holds text that is no Unicode") from None
    if not isinstance(element, bytes):
        raise DataError(f"the tensor {name!r} may hold numbers, text or bytes. Got {kind(element)}")
    return _LENGTH.pack(len(element)) + element
