"""Named columns in, rows of numbers out, and back: what is wrong is said column by column."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from buckler.errors import DataError
from buckler.threats.features.feature import Feature
from buckler.threats.features.spec import FeatureSpec

_SHOWN = 5


class Table(Protocol):
    """A pandas DataFrame, or a mapping from names to sequences of one length."""

    def keys(self) -> Iterable[Any]: ...
    def __getitem__(self, name: str, /) -> Any: ...


def from_table(spec: FeatureSpec, table: Table) -> Tensor:
    """(n, width) float32, the rows as the classifier sees them; columns in any order.

    Raises: DataError for missing or extra columns, lengths that differ, wrong types, NaN,
        fractions where whole numbers go, and levels that the spec does not know.
    """
    given = [str(name) for name in table.keys()]  # noqa: SIM118
    if missing := [name for name in spec.names if name not in given]:
        raise DataError(f"the table must have the spec's columns. Missing: {_some(missing)}")
    if extra := [name for name in given if name not in spec.names]:
        raise DataError(
            f"the table has columns that the spec does not know: {_some(extra)}. Leave them out, "
            "or add them to the spec with change = 'none'"
        )
    columns = [_numbers(spec[name], np.asarray(table[name])) for name in spec.names]
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise DataError(f"columns must be of one length. Got lengths {sorted(lengths)}")
    raw = torch.from_numpy(np.stack(columns, 1))
    return spec.encode(raw, like=torch.empty(0, dtype=torch.float32))


def to_table(spec: FeatureSpec, raw: Tensor) -> dict[str, np.ndarray]:
    """Raw rows (n, features) as named columns: levels by name, integers as int64."""
    table = {}
    for feature, column in zip(spec.features, raw.double().numpy().T, strict=True):
        if feature.levels and isinstance(feature.levels[0], str):
            table[feature.name] = np.array(feature.levels)[column.astype(np.int64)]
        elif feature.kind == "integer":
            table[feature.name] = np.rint(column).astype(np.int64)
        else:
            table[feature.name] = column.copy()
    return table


def _numbers(feature: Feature, column: np.ndarray) -> np.ndarray:
    """One column's raw numbers, float64."""
    name = feature.name
    if column.ndim != 1:
        raise DataError(f"column {name!r} must be one value a row. Got the shape {column.shape}")
    if feature.levels and isinstance(feature.levels[0], str):
        return _codes(feature, column)
    if column.dtype.kind not in "biuf":
        try:
            column = np.array([float(value) for value in column])
        except (TypeError, ValueError):
            bad = next(value for value in column.tolist() if not _is_number(value))
            raise DataError(f"column {name!r} must hold numbers. Got {bad!r}") from None
    column = column.astype(np.float64)
    if not np.isfinite(column).all():
        row = int(np.flatnonzero(~np.isfinite(column))[0])
        raise DataError(
            f"column {name!r} must hold finite numbers: fill in what is missing first. "
            f"Got {column[row]} in row {row}"
        )
    if feature.levels:
        known = np.array(feature.levels, dtype=np.float64)
        near = np.isclose(column[:, None], known, rtol=1e-6, atol=0).any(1)
        if not near.all():
            raise DataError(
                f"column {name!r} must hold one of its levels ({_some(feature.levels)}). "
                f"Got {column[~near][0]:g} in row {int(np.flatnonzero(~near)[0])}"
            )
    if feature.kind == "integer" and (column != np.rint(column)).any():
        row = int(np.flatnonzero(column != np.rint(column))[0])
        raise DataError(
            f"column {name!r} must hold whole numbers. Got {column[row]:g} in row {row}"
        )
    return column


def _codes(feature: Feature, column: np.ndarray) -> np.ndarray:
    ranks = {level: float(rank) for rank, level in enumerate(feature.levels)}
    codes = np.array([ranks.get(str(value), -1.0) for value in column.tolist()], dtype=np.float64)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise DataError(
            f"column {feature.name!r} must hold one of its levels ({_some(feature.levels)}). "
            f"Got {column.tolist()[row]!r} in row {row}"
        )
    return codes


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _some(names: Iterable[object]) -> str:
    """The first few of them."""
    every = [str(name) for name in names]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
