"""A first spec out of a table: ranges, types and levels as they occur, for a person to correct."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from buckler.errors import DataError, UsageError
from buckler.threats.features.feature import Change, Feature, Level
from buckler.threats.features.spec import FeatureSpec
from buckler.threats.features.table import Table

_NAMED = 50  # different texts in one column, at most: more are names or ids, not levels
_EXACT = 2**24


def read_table(path: Path) -> dict[str, np.ndarray]:
    """{name: (n,)} from a CSV or Parquet file; columns of numbers as numbers.

    Raises: DataError if it cannot be read, has no rows, or rows of different lengths; UsageError
        where Parquet's reader is not installed.
    """
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    if path.suffix.lower() != ".csv":
        raise DataError(f"a table must be a .csv or .parquet file. Got {path.name!r}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            head, *rows = [row for row in csv.reader(stream) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from None
    if not rows:
        raise DataError(f"{path} must hold a line of names and at least one row. Got 0 rows")
    if twice := [name for name in head if head.count(name) > 1]:
        raise DataError(f"{path}: each column needs a name of its own. Got {twice[0]!r} twice")
    for number, row in enumerate(rows, 2):
        if len(row) != len(head):
            raise DataError(
                f"{path}: each row must have {len(head)} values. Got {len(row)} in line {number}"
            )
    return {name: _typed([row[at] for row in rows]) for at, name in enumerate(head)}


def _typed(column: list[str]) -> np.ndarray:
    try:
        return np.array([float(value) if value.strip() else math.nan for value in column])
    except ValueError:
        return np.array(column)


def _parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            "Parquet files need their reader: pip install pyarrow, or save the table as .csv"
        ) from None
    try:
        read = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from None
    return {name: np.asarray(read[name].to_pylist()) for name in read.column_names}


def draft(
    table: Table, immutable: Sequence[str] = (), leave_out: Sequence[str] = ()
) -> FeatureSpec:
    """A spec of the table's columns: what is text is a category, what is whole an integer, with the
    range that occurs. Everything may change, for nothing is known: whoever knows says what may not,
    and what a change costs.

    Args:
        immutable: columns with change = "none".
        leave_out: columns that are no features, as the label.

    Raises: DataError for columns that are not there, are empty, hold NaN, or too many texts.
    """
    names = [str(name) for name in table.keys()]  # noqa: SIM118
    if missing := [name for name in (*immutable, *leave_out) if name not in names]:
        raise DataError(f"the table has no column {missing[0]!r}. Its columns: {', '.join(names)}")
    kept = [name for name in names if name not in leave_out]
    if not kept:
        raise DataError("a spec needs columns: all were left out")
    return FeatureSpec(
        tuple(_feature(name, np.asarray(table[name]), name in immutable) for name in kept)
    )


def _feature(name: str, column: np.ndarray, fixed: bool) -> Feature:
    if not len(column):
        raise DataError(f"column {name!r} must have rows. Got 0")
    if column.dtype.kind not in "biuf":
        return _category(name, column, fixed)
    column = column.astype(np.float64)
    if not np.isfinite(column).all():
        row = int(np.flatnonzero(~np.isfinite(column))[0])
        raise DataError(
            f"column {name!r} must hold finite numbers: fill in what is missing first. "
            f"Got {column[row]} in row {row}"
        )
    low, high = float(column.min()), float(column.max())
    whole = bool((column == np.rint(column)).all()) and max(abs(low), abs(high)) <= _EXACT
    change: Change = "none" if fixed or low == high else "any"
    return Feature(name, "integer" if whole else "real", low, high, change=change)


def _category(name: str, column: np.ndarray, fixed: bool) -> Feature:
    levels: list[Level] = sorted({str(value) for value in column.tolist()})
    if "" in levels or "None" in levels:
        raise DataError(f"column {name!r} has empty values: fill them in first, e.g. as 'missing'")
    if len(levels) > _NAMED:
        raise DataError(
            f"column {name!r} holds {len(levels)} different texts, more than the {_NAMED} of a "
            "category: leave it out, or group them"
        )
    if len(levels) == 1:  # a second level that never occurs keeps it a category
        levels = [*levels, "other"]
        fixed = True
    return Feature(name, "category", levels=tuple(levels), change="none" if fixed else "any")
