"""The protocol's datatypes, and the numpy dtypes that carry them."""

from typing import Final

import numpy as np

from buckler.errors import DataError

BYTES: Final = "BYTES"
BF16: Final = "BF16"
FP16: Final = "FP16"
BINARY_ONLY: Final = (FP16, BF16)

DTYPES: Final[dict[str, np.dtype]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    FP16: np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    BF16: np.dtype("<u2"),  # numpy has none: the bits
}
DATATYPES: Final = (*DTYPES, BYTES)
_NAMES = {(dtype.kind, dtype.itemsize): name for name, dtype in DTYPES.items() if name != BF16}


def datatype_of(name: str, array: np.ndarray) -> str:
    """The datatype of an array to be sent; text and bytes are BYTES, a bfloat16 of any library
    is BF16. Raises: DataError for what the protocol does not know."""
    if array.dtype.kind in "OUS":
        return BYTES
    if array.dtype.name == "bfloat16":
        return BF16
    found = _NAMES.get((array.dtype.kind, array.dtype.itemsize))
    if found is None:
        allowed = ", ".join(str(dtype) for datatype, dtype in DTYPES.items() if datatype != BF16)
        raise DataError(
            f"the tensor {name!r} must be of {allowed}, text or bytes. Got {array.dtype}"
        )
    return found


def widened(bits: np.ndarray) -> np.ndarray:
    """float32 of the bits of bfloat16, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
