"""Rows of a table by the names of their columns, as the bundle's feature spec declares them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from buckler.errors import DataError
from buckler.threats.features import FeatureSpec, from_table
from buckler.threats.features.feature import Feature

Json = dict[str, Any]
_PLAIN = (str, int, float)


def rows_of_objects(rows: Sequence[object], table: FeatureSpec) -> Tensor:
    """x (n, width) of rows {name: value, …}.

    Raises: DataError naming the row or column: missing or unknown columns, other types, unknown
        levels.
    """
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"row {number} must be an object of columns, as the first row is")
        if row.keys() != rows[0].keys():  # type: ignore[attr-defined]
            raise DataError(f"row {number} must have the same columns as the first row")
        for name, value in row.items():
            if not isinstance(value, _PLAIN):
                kind = "null" if value is None else type(value).__name__
                raise DataError(
                    f"row {number}: column {name[:60]!r} must be a number or a text. Got {kind}"
                )
    first: Json = rows[0]  # type: ignore[assignment]
    return from_table(
        table,
        {name: np.array([row[name] for row in rows], object) for name in first},  # type: ignore[index]
    )


def rows_of_columns(inputs: Mapping[str, np.ndarray], table: FeatureSpec, most: int) -> Tensor:
    """x (n, width) of columns {name: (n,) or (n, 1)}; texts come as BYTES.

    Raises: DataError naming the column.
    """
    columns = {}
    for name, array in inputs.items():
        if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
            raise DataError(
                f"column {name[:60]!r} must have the shape (n) or (n, 1). "
                f"Got ({', '.join(map(str, array.shape))})"
            )
        if not 1 <= len(array) <= most:
            raise DataError(f"a request must have 1 to {most} rows. Got {len(array)}")
        flat = array.reshape(-1)
        if flat.dtype.kind == "O":
            flat = np.array([_text(name, each) for each in flat.tolist()], object)
        columns[name] = flat
    return from_table(table, columns)


def _text(name: str, value: object) -> object:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise DataError(f"column {name[:60]!r} must hold UTF-8 text") from None


def _is_text(feature: Feature) -> bool:
    return bool(feature.levels) and isinstance(feature.levels[0], str)


def ports(table: FeatureSpec) -> list[Json]:
    """The columns as inputs of the V2 protocol."""
    return [
        {"name": each.name, "datatype": "BYTES" if _is_text(each) else "FP32", "shape": [-1]}
        for each in table.features
    ]


def schema(table: FeatureSpec) -> Json:
    """One row as an object, for the contract."""
    properties: Json = {
        each.name: {"type": "string", "enum": list(each.levels)}
        if _is_text(each)
        else {"type": "integer" if each.kind == "integer" else "number"}
        for each in table.features
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
