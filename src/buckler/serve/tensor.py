"""The one input of the V2 protocol, as rows the guard can judge."""

from typing import Final

import numpy as np
import torch

from buckler import wire
from buckler.errors import DataError
from buckler.inputs import InputSpec
from buckler.serve.body import images
from buckler.serve.columns import rows_of_columns
from buckler.serve.inputs import Inputs
from buckler.text.codes import from_utf8
from buckler.threats.features import FeatureSpec

INPUT: Final = "input"


def is_numbers(value: object) -> bool:
    """Of a request's JSON: no image files, which take long to take apart and to decode."""
    inputs = value.get("inputs") if isinstance(value, dict) else None
    parts = [part for part in inputs if isinstance(part, dict)] if isinstance(inputs, list) else []
    return all(part.get("datatype") != "BYTES" for part in parts)


def rows_of(
    asked: wire.InferRequest,
    spec: InputSpec,
    max_rows: int,
    until: float,
    table: FeatureSpec | None = None,
) -> Inputs:
    """x (n, *spec.shape) float32, checked: numbers as they stand, or image files (n,) in BYTES;
    with a table, also an input a column; of a classifier of texts, texts (n,) in BYTES.

    Raises: DataError naming the first thing wrong; RefusedError 504 past the loop's time `until`.
    """
    if table is not None and list(asked.inputs) != [INPUT]:
        return Inputs(spec.check(rows_of_columns(asked.inputs, table, max_rows)))
    if list(asked.inputs) != [INPUT]:
        names = ", ".join(map(repr, asked.inputs))
        raise DataError(f"there must be one input, called {INPUT!r}. Got {names[:120]}")
    array = asked.inputs[INPUT]
    if spec.text and array.dtype.kind != "O":
        raise DataError(f"the input must be texts in BYTES. Got {array.dtype}")
    row = () if array.dtype.kind == "O" else spec.shape
    if array.ndim == 0 or array.shape[1:] != row or not 1 <= len(array) <= max_rows:
        raise DataError(
            f"the input must have the shape (n{''.join(f', {size}' for size in row)}) with n from "
            f"1 to {max_rows}. Got ({', '.join(map(str, array.shape))})"
        )
    if spec.text:
        return Inputs(spec.read([_text(each) for each in array.tolist()]), text=True)
    if array.dtype.kind == "O":
        return _decoded(array.tolist(), spec, until)
    if array.dtype.kind not in "fiu":
        raise DataError("the input must be numbers, or image files in BYTES. Got BOOL")
    pixels = array.dtype == np.uint8 and spec.levels == 256 and spec.box == (0, 1)
    if pixels or (array.dtype == np.uint16 and spec.is_deep):
        return Inputs(spec.of_levels(array))
    with np.errstate(over="ignore"):  # infinity is refused below
        numbers = np.require(array, np.float32, "W")
    return Inputs(spec.check(torch.from_numpy(numbers)))


def _text(value: object) -> str:
    """It came as text, or as its bytes in UTF-8."""
    return from_utf8(value) if isinstance(value, bytes) else str(value)


def _decoded(files: list[object], spec: InputSpec, until: float) -> Inputs:
    found = [each for each in files if isinstance(each, bytes)]
    if len(found) < len(files):
        raise DataError(
            "image files must be binary data, or base64 with the tensor's parameter content_type "
            '"base64". Got text'
        )
    return images(found, spec, until, "image")
