"""Rows in JSON: {"rows": [[…], …]}, each flat or nested as the model's input, or {"texts": […]}."""

import math
from itertools import chain

import numpy as np
import orjson
import torch
from torch import Tensor

from buckler.errors import DataError
from buckler.inputs import InputSpec
from buckler.serve.columns import rows_of_objects
from buckler.threats.features import FeatureSpec

_NUMBERS = {int, float}
_IN_JSON = {"bool": "true or false", "NoneType": "null", "str": "text", "dict": "an object"}


def rows_from_json(
    body: bytes | bytearray, spec: InputSpec, max_rows: int, table: FeatureSpec | None = None
) -> Tensor:
    """x (n, *spec.shape) float32, checked; with a table, also rows {name: value, …}.

    Raises: DataError naming the first thing wrong. NaN and infinity are no JSON.
    """
    value = _json(body)
    if not isinstance(value, dict) or list(value) != ["rows"]:
        raise DataError(f'the body must be {{"rows": [[…], …]}}. Got {_describe(value)}')
    rows = value["rows"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= max_rows:
        raise DataError(f"rows must be a list of 1 to {max_rows} rows. Got {_describe(rows)}")
    if table is not None and isinstance(rows[0], dict):
        return spec.check(rows_of_objects(rows, table))
    numbers = np.array([_row(i, row, spec.shape) for i, row in enumerate(rows)], np.float64)
    return spec.check(torch.from_numpy(numbers).float().reshape(len(rows), *spec.shape))


def texts_from_json(body: bytes | bytearray, spec: InputSpec, max_rows: int) -> Tensor:
    """x (n, length), checked. Raises: DataError naming the first thing wrong."""
    value = _json(body)
    if not isinstance(value, dict) or list(value) != ["texts"]:
        raise DataError(f'the body must be {{"texts": ["…", …]}}. Got {_describe(value)}')
    texts = value["texts"]
    if not isinstance(texts, list) or not 1 <= len(texts) <= max_rows:
        raise DataError(f"texts must be a list of 1 to {max_rows} texts. Got {_describe(texts)}")
    strange = next((each for each in texts if not isinstance(each, str)), None)
    if strange is not None or None in texts:
        raise DataError(f"each of texts must be text. Got {_describe(strange)}")
    return spec.read(texts)


def _json(body: bytes | bytearray) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"the body must be JSON: {error}") from None


def _row(index: int, row: object, shape: tuple[int, ...]) -> list[float]:
    count = math.prod(shape)
    flat = _numbers(row, (count,))
    found = _numbers(row, shape) if flat is None else flat
    if found is None:
        nested = "" if len(shape) == 1 else f", flat or nested {' x '.join(map(str, shape))}"
        raise DataError(f"row {index} must be {count} numbers{nested}. Got {_describe(row)}")
    return found


def _numbers(value: object, shape: tuple[int, ...]) -> list[float] | None:
    """The numbers in `value`, last axis fastest; None where it is not nested as `shape` says."""
    if not isinstance(value, list) or len(value) != shape[0]:
        return None
    if len(shape) == 1:
        return value if set(map(type, value)) <= _NUMBERS else None
    parts = [_numbers(part, shape[1:]) for part in value]
    whole = [part for part in parts if part is not None]
    return list(chain.from_iterable(whole)) if len(whole) == len(parts) else None


def _describe(value: object) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(map(repr, list(value)[:5])) or 'nothing in it'}"[:120]
    if not isinstance(value, list):
        return _IN_JSON.get(type(value).__name__, "a number")
    kinds = {_IN_JSON.get(type(part).__name__, "") for part in value} - {""}
    return f"a list of {len(value)}" + (f" with {' and '.join(sorted(kinds))}" if kinds else "")
