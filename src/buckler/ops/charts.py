"""Which charts watch a bundle's rows, what each looks at, and how its threshold is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from buckler.errors import UsageError
from buckler.ops.cusum import Chart, chart
from buckler.ops.rows import CONFIDENCE, Reference, worst
from buckler.ops.season import Factors

Tier = Literal["page", "ticket"]
CONTAMINATION: Final = 0.02
"""The share of adversarial rows that the charts are made to find."""
LEAST: Final = 0.005
"""A rarer event's absence shows only after tens of thousands of rows: it is not watched for."""
_HIT: Final = 0.85  # of adversarial rows, how many lie in the tail
_FALL: Final = 0.15  # how slowly that falls with depth: half of them are 100 times as deep
_FEWER: Final = 0.5  # the fall of the SUSPICIOUS rate that is sought
_SURER: Final = 0.25  # the shift of confidence's ranks, in standard deviations
_ODDS: Final = 1.5  # the rise of a class
# Of the false alarms: a chart each for tail, depth, suspicious up and down, and one a class.
SHARES: Final = {"tail": 1 / 3, "suspicious": 1 / 9, "class": 1 / 9}


@dataclass(frozen=True)
class Learnt:
    """What a bundle's own traffic said of what its calibration does not tell: rows a class group,
    and SUSPICIOUS ones."""

    classes: tuple[int, ...]
    suspicious: int


@dataclass(frozen=True)
class Watched:
    """A chart, and the column of `rows.columns` that it looks at.

    part: which class; of the tail, how many levels.
    """

    statistic: str
    tier: Tier
    column: str
    part: int
    chart: Chart
    expected: float

    def categories(self, seen: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
        column = seen[self.column]
        if self.column == "class":
            mine: NDArray[np.int64] = (column == self.part).astype(np.int64)
            return mine
        if self.column == "tail":
            column = np.minimum(column, self.part).astype(np.int64)
        return column


@lru_cache(maxsize=256)
def watched(
    reference: Reference, arl: float, learnt: Learnt | None, factors: Factors
) -> tuple[Watched, ...]:
    """The charts of an hour of the week, as far as their references are known.

    Args:
        arl: rows between two false alarms of all paging charts together.
    """
    if not arl > 1:
        raise UsageError(f"rows between two false alarms must be more than 1. Got {arl:g}")
    return (
        *_tail(reference, arl / SHARES["tail"], factors.tail),
        *_suspicious(reference, learnt, arl / SHARES["suspicious"], factors.suspicious),
        *_classes(reference, learnt, arl / SHARES["class"], factors.classes),
        *_confidence(reference, arl),
    )


def low_rate(reference: Reference, learnt: Learnt | None) -> float | None:
    """The lowest rate of SUSPICIOUS rows that the reference allows; None while it is unknown."""
    if reference.review is not None:
        return reference.review[0]
    if learnt is None:
        return None
    total = sum(learnt.classes)
    return 1 - worst(total - learnt.suspicious, total)


def _tail(reference: Reference, arl: float, factor: float) -> list[Watched]:
    """A Bernoulli CUSUM on the tail, and one in which deeper rows weigh more.

    The second's alternative puts (rank / first)^_FALL of the adversarial rows in the tail below a
    level, the power calibrator of p-values (Vovk and Wang 2021): several times as quick on rows
    that lie deep, and blind to an attack that stays just within the tail, which the first one sees.
    """
    n, expected = reference.n, [rank / (reference.n + 1) for rank in reference.ranks]
    null = [min(0.5, worst(rank - 1, n) * factor) for rank in reference.ranks]
    hit = [_HIT * (p / expected[0]) ** _FALL for p in expected]
    shifted = [p + CONTAMINATION * (h - p) for p, h in zip(null, hit, strict=True)]
    found = []
    for name, levels in (("tail", min(1, len(null))), ("depth", len(null))):
        if levels and (name == "tail" or levels > 1):
            made = chart(_apart(null[:levels]), _apart(shifted[:levels]), arl)
            found.append(Watched(name, "page", "tail", levels, made, expected[0]))
    return found


def _suspicious(
    reference: Reference, learnt: Learnt | None, arl: float, factor: float
) -> list[Watched]:
    found, low = [], low_rate(reference, learnt)
    if low is None:
        return []
    if reference.review is not None:
        high, expected = reference.review[2], reference.review[1]
    elif learnt is not None:
        total = sum(learnt.classes)
        high, expected = worst(learnt.suspicious, total), learnt.suspicious / total
    p = min(0.95, high * factor)
    more = _more(p, CONTAMINATION * _HIT)
    made = chart((1 - p, p), (1 - more, more), arl)
    found.append(Watched("suspicious up", "page", "suspicious", 0, made, expected))
    if low * factor >= LEAST:
        p = min(0.95, low * factor)
        made = chart((1 - p, p), (1 - _FEWER * p, _FEWER * p), arl)
        found.append(Watched("suspicious down", "page", "suspicious", 0, made, 1 - expected))
    return found


def _classes(
    reference: Reference, learnt: Learnt | None, arl: float, factors: Sequence[float]
) -> list[Watched]:
    """Upwards only: what leaves one class arrives in another."""
    if learnt is None or reference.groups < 2:
        return []
    found, total = [], sum(learnt.classes)
    for group, (count, factor) in enumerate(zip(learnt.classes, factors, strict=True)):
        p = min(0.95, worst(count, total) * factor)
        odds = _ODDS * p / (1 - p)
        shifted = max(odds / (1 + odds), _more(p, CONTAMINATION))
        made = chart((1 - p, p), (1 - shifted, shifted), arl * reference.groups)
        name = f"class {reference.name(group)}"
        found.append(Watched(name, "page", "class", group, made, count / total))
    return found


def _confidence(reference: Reference, arl: float) -> list[Watched]:
    """CUSUM of normal scores: the ranks' tenths, tilted by `_SURER` standard deviations."""
    if not reference.confident:
        return []
    null = (1 / CONFIDENCE,) * CONFIDENCE
    scores = norm.ppf((np.arange(CONFIDENCE) + 0.5) / CONFIDENCE)
    found = []
    for name, sign in (("confidence up", 1), ("confidence down", -1)):
        tilted = np.exp(sign * _SURER * scores)
        made = chart(null, tuple((tilted / tilted.sum()).tolist()), arl)
        found.append(Watched(name, "ticket", "confidence", 0, made, 0.5))
    return found


def _more(p: float, share: float) -> float:
    """The rate when `share` of the rows are of the kind for sure."""
    return p + share * (1 - p)


def _apart(cumulative: Sequence[float]) -> tuple[float, ...]:
    """The probabilities of the bins, from those of reaching each level: nothing first."""
    edges = [1.0, *cumulative, 0.0]
    return tuple(a - b for a, b in pairwise(edges))
