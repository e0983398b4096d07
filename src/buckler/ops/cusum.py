"""CUSUM charts on categories, whose thresholds are solved exactly from the average run length.

The statistic S = max(0, S + weight of the row's category) alarms at `limit` and begins again at 0
(Page 1954). Weights are whole numbers near the log-likelihood ratio of the shift that is sought, so
that S walks on 0 … limit − 1 and its average run length is the solution of a linear system: the
Markov chain of Brook and Evans (1972), exact here, as for Bernoulli rows in Reynolds and Stoumbos
(1999).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from buckler.errors import UsageError

_ROUNDING: Final = 0.01
_FINEST: Final = 4096  # units that the largest weight has at most
_AT_ONCE: Final = 4096  # rows, of which those before an alarm are looked at twice
_NEVER: Final = 1e15
_LONGEST: Final = 1 << 14  # states of a chain that is still solved within a second


@dataclass(frozen=True)
class Chart:
    """weights: a whole number a category. limit: S alarms there. arl: rows to a false alarm, on
    average from S = 0, at the rates the chart was made for."""

    weights: tuple[int, ...]
    limit: int
    arl: float


@dataclass(frozen=True)
class Run:
    """Where S stands after some rows, how many came since it last was 0, and how many of them spoke
    for the shift (weight above 0): the rows since the change, by maximum likelihood.

    alarms: (row, rows since 0, rows that spoke) of each row that alarmed.
    """

    at: int
    rows: int
    hits: int
    alarms: tuple[tuple[int, int, int], ...] = ()


@lru_cache(maxsize=4096)
def chart(null: tuple[float, ...], shifted: tuple[float, ...], arl: float) -> Chart:
    """The chart that best tells `shifted` from `null` with so many rows to a false alarm.

    Args:
        null, shifted: the probability of each category, before and after; all above 0.
        arl: at least so many rows on average to an alarm under `null`, from S = 0.

    Raises: UsageError for probabilities that are none, or a shift too small to be told.
    """
    for name, given in (("null", null), ("shifted", shifted)):
        if len(given) != len(null) or min(given) <= 0 or not math.isclose(sum(given), 1):
            raise UsageError(f"{name} must be probabilities above 0 that sum to 1. Got {given}")
    if not 1 < arl < 1e13:
        raise UsageError(f"arl must be a number of rows between 1 and 1e13. Got {arl:g}")
    weights = whole([math.log(b / a) for a, b in zip(null, shifted, strict=True)], null)
    if sum(w * p for w, p in zip(weights, null, strict=True)) >= 0:
        raise UsageError(f"shifted must differ more from null. Got {null} and {shifted}")
    low, high = 0, max(weights)
    while run_length(weights, null, high) < arl:
        low, high = high, 2 * high
        if high > _LONGEST:
            raise UsageError(f"shifted must differ more from null. Got {null} and {shifted}")
    while high - low > 1:
        middle = (low + high) // 2
        enough = run_length(weights, null, middle) >= arl
        low, high = (low, middle) if enough else (middle, high)
    return Chart(weights, high, run_length(weights, null, high))


def whole(ratios: Sequence[float], rates: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers in about the same proportions, as small as an error of 1 % of an average step
    allows.

    >>> whole([-0.0173, 0.993], [0.99, 0.01])
    (-1, 57)
    """
    given, often = np.asarray(ratios), np.asarray(rates)
    size, most = float(often @ abs(given)), float(abs(given).max())
    for count in range(1, _FINEST):
        unit = most / count
        weights = np.round(given / unit)
        if often @ abs(weights * unit - given) <= _ROUNDING * size:
            break
    return tuple(int(weight) for weight in weights)


def run_length(weights: Sequence[int], rates: Sequence[float], limit: int) -> float:
    """Rows on average from S = 0 to the alarm, exactly; infinite from 1e15 on.

    With L(s) the rows from S = s: L(s) = 1 + Σ rate · L(max(0, s + weight)), 0 from `limit` on.
    """
    down = min(max(0, -min(weights)), limit - 1)
    up = min(max(0, *weights), limit - 1)
    # The states are taken from the top where S falls further than it rises: elimination costs
    # what lies below the diagonal.
    flip = down > up
    below, above = (up, down) if flip else (down, up)
    band = np.zeros((below + above + 1, limit))
    band[above] = 1.0
    states = np.arange(limit)
    for weight, rate in zip(weights, rates, strict=True):
        to = np.maximum(0, states + weight)
        inside = to < limit
        i, j = states[inside], to[inside]
        if flip:
            i, j = limit - 1 - i, limit - 1 - j
        np.subtract.at(band, (above + i - j, j), rate)
    lengths = solve_banded((below, above), band, np.ones(limit), overwrite_ab=True)
    found = float(lengths[-1] if flip else lengths[0])
    # What is longer than rounding can tell (the equations are then all but singular) never comes.
    return found if 0 < found < _NEVER else math.inf


def run(chart: Chart, before: Run, categories: NDArray[np.integer]) -> Run:
    """S over the rows (n,), each an index into the weights; after an alarm it begins at 0."""
    steps = np.asarray(chart.weights, np.int64)[categories]
    at, rows, hits = min(before.at, chart.limit - 1), before.rows, before.hits
    done, alarms = 0, []
    while done < len(steps):
        part = steps[done : done + _AT_ONCE]
        sums = part.cumsum()
        path = sums - np.minimum(np.minimum.accumulate(sums), -at)
        over = path >= chart.limit
        end = int(over.argmax()) + 1 if over.any() else len(part)
        zeros = np.flatnonzero(path[:end] == 0)
        start = int(zeros[-1]) + 1 if len(zeros) else 0
        if start:
            rows = hits = 0
        rows += end - start
        hits += int((part[start:end] > 0).sum())
        at = int(path[end - 1])
        done += end
        if at >= chart.limit:
            alarms.append((done - 1, rows, hits))
            at = rows = hits = 0
    return Run(at, rows, hits, tuple(alarms))
