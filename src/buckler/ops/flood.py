"""A flood of one client's inputs must not drown the others': caps, and near-duplicates as one.

Every row is kept whatever happens here; this only says which of them stand in the queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from buckler.ops.review import Policy

_SIDE = 8
_HEX = 16


@dataclass(frozen=True)
class Place:
    """Where a new row goes: in the queue, behind the row it resembles, or aside until there is
    room among its client's."""

    state: Literal["waiting", "grouped", "parked"]
    leader: str | None = None


def place(
    fingerprint: str, leaders: Sequence[tuple[str, str]], waiting: int, policy: Policy
) -> Place:
    """The place of a row of a client.

    Args:
        fingerprint: of the row; "" resembles nothing.
        leaders: (id, fingerprint) of the client's rows that wait.
        waiting: how many of its rows wait.
    """
    for leader, other in leaders:
        if is_near(fingerprint, other, policy.near_bits):
            return Place("grouped", leader)
    return Place("parked") if waiting >= policy.client_cap else Place("waiting")


def is_near(one: str, other: str, bits: int) -> bool:
    """Whether two fingerprints differ in at most so many of 64 bits; others must be equal.

    >>> is_near("00000000000000ff", "00000000000000fe", 1)
    True
    """
    if not one or not other:
        return False
    if one == other:
        return True
    try:
        return (
            len(one) == len(other) == _HEX and (int(one, 16) ^ int(other, 16)).bit_count() <= bits
        )
    except ValueError:
        return False


def fingerprint(x: NDArray[np.floating[Any]]) -> str:
    """64 bits that small changes of an input hardly change, hex.

    Args:
        x: one input. (c, h, w): which cells of an 8 × 8 grid are brighter than the median cell.
            Another shape: the hash of the values at two significant figures, where near is equal.
    """
    if x.ndim != 3:
        text = ",".join(f"{value:.1e}" for value in x.ravel())
        return sha256(text.encode()).hexdigest()[:_HEX]
    cells = np.asarray(x, np.float64).mean(0)
    for axis in (0, 1):
        edges = np.arange(_SIDE) * cells.shape[axis] // _SIDE
        sizes = np.maximum(np.diff(edges, append=cells.shape[axis]), 1)
        shape = (-1, 1) if axis == 0 else (1, -1)
        cells = np.add.reduceat(cells, edges, axis) / sizes.reshape(shape)
    bits = (cells > np.median(cells)).ravel()
    return np.packbits(bits).tobytes().hex()
