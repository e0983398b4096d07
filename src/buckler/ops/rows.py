"""A row as the alarms see it: 16 bits, and the reference that says what each of them means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

GROUPS: Final = 16
"""Classes are watched one by one; more than these share a chart with every 16th other."""
CONFIDENCE: Final = 10
LEVELS: Final = 3
_TAIL: Final = 0.01  # of the calibration rows
_DEEPER: Final = 8  # times as deep, from level to level


@dataclass(frozen=True)
class Reference:
    """What a bundle's calibration says of clean rows.

    Args:
        classes: names, in the model's order.
        n: calibration rows.
        ranks: levels of the tail, falling: a row has reached `rank` if p <= rank / (n + 1), so if
            fewer than `rank` of them lie as deep; () where there are no conformal p-values.
        review: the rate of SUSPICIOUS rows: the least and the expected one and the one that it
            stays under, each limit with 95 % over the draw of the calibration rows; None: unknown.
        confident: tenths of the confidences of clean rows, rising; () where unknown.
    """

    classes: tuple[str, ...]
    n: int = 0
    ranks: tuple[int, ...] = ()
    review: tuple[float, float, float] | None = None
    confident: tuple[float, ...] = ()

    @property
    def groups(self) -> int:
        return min(GROUPS, len(self.classes))

    def name(self, group: int) -> str:
        return ", ".join(self.classes[group :: self.groups][:4])


def ranks_of(n: int) -> tuple[int, ...]:
    """The levels of the tail that n calibration rows tell apart.

    >>> ranks_of(2000), ranks_of(50)
    ((20, 2), (1,))
    """
    first = max(1, int(_TAIL * (n + 1)))
    found = [first // _DEEPER**level for level in range(LEVELS)]
    return tuple(rank for rank in found if rank)


def worst(count: int, n: int) -> float:
    """The rate that a kind of row stays under with 95 %, of which `count` of n were (Clopper and
    Pearson 1934; for a calibration's level Vovk 2012, the same beta distribution)."""
    return float(beta.ppf(0.95, count + 1, n - count)) if count < n else 1.0


def encode(
    reference: Reference,
    anomaly: Sequence[float],
    suspicious: Sequence[bool],
    predicted: Sequence[int],
    confidence: Sequence[float],
) -> NDArray[np.uint16]:
    """(n,) uint16. anomaly: 1 − p, as in a verdict; predicted: class numbers."""
    deep = np.zeros(len(anomaly), np.int64)
    if reference.ranks:
        # Between two neighbouring p-values, so that no rounding decides.
        cuts = [1 - (rank + 0.5) / (reference.n + 1) for rank in reference.ranks]
        deep = np.searchsorted(cuts, anomaly)
    sure = np.zeros(len(anomaly), np.int64)
    if reference.confident:
        sure = np.searchsorted(reference.confident, confidence)
    code = sure * GROUPS + np.asarray(predicted, np.int64) % reference.groups
    code = (2 * code + np.asarray(suspicious, np.int64)) * (LEVELS + 1) + deep
    return code.astype(np.uint16)


def columns(reference: Reference, codes: NDArray[np.uint16]) -> dict[str, NDArray[np.int64]]:
    """What `encode` packed: tail (levels), suspicious, class (group), confidence (tenths)."""
    code = codes.astype(np.int64)
    code, deep = np.divmod(code, LEVELS + 1)
    code, suspicious = np.divmod(code, 2)
    sure, group = np.divmod(code, GROUPS)
    return {"tail": deep, "suspicious": suspicious, "class": group, "confidence": sure}
