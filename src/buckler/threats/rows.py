"""Rows of a batch, a cacheful at a time."""

from collections.abc import Iterator

from torch import Tensor

_VALUES = 1 << 16  # input values in one pass on a CPU: more of them leave its cache
_ROWS = 128  # but a net never gets fewer rows
_LARGE = 32  # times as much on an accelerator


def parts(x: Tensor, least: int = _ROWS) -> Iterator[slice]:
    """The rows of x in parts that one pass takes at a time; a model's, `least` rows or more."""
    rows = at_once(x[0] if len(x) else x, least)
    for start in range(0, len(x), rows):
        yield slice(start, min(start + rows, len(x)))


def at_once(row: Tensor, least: int = _ROWS) -> int:
    """How many rows like this one a pass takes."""
    rows = max(1, least, _VALUES // max(1, row.numel()) // least * least)
    return rows if row.device.type == "cpu" else rows * _LARGE
