"""Intervals and p-values for counts: pure maths, no torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln
from scipy.stats import beta, binom, norm


@dataclass(frozen=True)
class Rate:
    """k of n, with the interval in which the true rate lies with the given confidence."""

    k: int
    n: int
    value: float
    low: float
    high: float


def wilson(k: int, n: int, confidence: float = 0.95) -> Rate:
    """Rate with Wilson's score interval (Wilson 1927).

    >>> wilson(5, 100).low < 0.05 < wilson(5, 100).high
    True
    """
    _check_counts(k, n)
    z = float(norm.ppf(0.5 + confidence / 2))
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At k = 0 and k = n the closed form touches 0 and 1 but for rounding.
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Rate(k, n, p, low, high)


def clopper_pearson_lower(k: int, n: int, alpha: float) -> float:
    """A number that lies below the true rate with probability at least 1 − alpha (one-sided).

    Source: Clopper and Pearson 1934.
    """
    _check_counts(k, n)
    return 0.0 if k == 0 else float(beta.ppf(alpha, k, n - k + 1))


def clopper_pearson_upper(k: int, n: int, alpha: float) -> float:
    """A number that lies above the true rate with probability at least 1 − alpha (one-sided)."""
    _check_counts(k, n)
    return 1.0 if k == n else float(beta.ppf(1 - alpha, k + 1, n - k))


def conformal_p(
    calibration: Sequence[float] | NDArray[np.floating], scores: Sequence[float]
) -> NDArray[np.float64]:
    """Conformal p-values: (1 + calibration scores at least as large) / (n + 1).

    For scores exchangeable with the calibration scores, P(p ≤ a) ≤ a for each a
    (Vovk, Gammerman, Shafer 2005).
    """
    return conformal_p_ordered(np.sort(np.asarray(calibration, dtype=np.float64)), scores)


def conformal_p_ordered(
    ordered: NDArray[np.floating], scores: Sequence[float] | NDArray[np.floating]
) -> NDArray[np.float64]:
    """`conformal_p` of calibration scores that are sorted already: n log n saved a call."""
    below = np.searchsorted(ordered, np.asarray(scores, dtype=np.float64), side="left")
    return np.asarray((1 + len(ordered) - below) / (len(ordered) + 1), dtype=np.float64)


_ROWS_FOR_A_TARGET = 2000


@dataclass(frozen=True)
class Threshold:
    """A conformal threshold: flag a row if its score lies strictly above `value`.

    `expected` is the exact mean flag rate on fresh exchangeable data, `upper` the rate it stays
    under with probability 0.95 over the draw of the calibration set.
    """

    value: float
    target: float
    expected: float
    upper: float
    n: int

    def sentence(self) -> str:
        """What may be promised of the review rate, in words.

        The 95 % are over the draw of the calibration rows; fresh inputs must be exchangeable with
        them. The bound is rounded up. Under 2,000 rows the bound alone is told, for the target
        would read finer than they can tell.

        >>> conformal_threshold(range(300), 0.01).sentence()
        'calibrated on 300 rows: at most 2.1 % with 95 % confidence; no finer claim'
        """
        if self.n < _ROWS_FOR_A_TARGET:
            bound = _percent(self.upper, 1, math.ceil)
            return (
                f"calibrated on {self.n:,} rows: at most {bound} with 95 % confidence; "
                "no finer claim"
            )
        return (
            f"target {_percent(self.target, 2, round)}, at most "
            f"{_percent(self.upper, 2, math.ceil)} of clean inputs with 95 % confidence "
            f"(n = {self.n:,} calibration rows)"
        )


def conformal_threshold(calibration: Sequence[float], target: float) -> Threshold:
    """The smallest threshold whose expected flag rate on fresh data is at most `target`.

    The rate given the calibration set follows Beta(l, n + 1 − l), l = n + 1 − ceil((n + 1)(1 − t))
    (Vovk 2012), for scores without ties; ties only lower it.
    """
    ordered = np.sort(np.asarray(calibration, dtype=np.float64))
    n = len(ordered)
    if not 0 < target < 1 or not np.isfinite(ordered).all():
        raise ValueError(f"a threshold needs finite scores and a rate in (0, 1). Got {target:g}")
    rank = max(1, math.ceil((n + 1) * (1 - target) - 1e-9))
    if rank > n:
        need = math.ceil(1 / target) - 1
        raise ValueError(
            f"a review rate of {target:g} needs at least {need} calibration rows. Got {n}"
        )
    above = n + 1 - rank
    upper = float(beta.ppf(0.95, above, n + 1 - above))
    return Threshold(float(ordered[rank - 1]), target, above / (n + 1), upper, n)


def _percent(share: float, decimals: int, rounded: Callable[[float], int]) -> str:
    """With two figures at least, however small the share."""
    if share > 0:
        decimals = max(decimals, 1 - math.floor(math.log10(100 * share)))
    steps = 10**decimals
    return f"{min(rounded(100 * share * steps - 1e-9), 100 * steps) / steps:.{decimals}f} %"


def sign_test(losses: int, wins: int) -> float:
    """P-value of at least so many wins in losses + wins fair coin tosses: McNemar's exact
    one-sided test, for two systems on the same rows (McNemar 1947). 1 where they never differ.
    """
    n = losses + wins
    return 1.0 if n == 0 else float(binom.sf(wins - 1, n, 0.5))


_BETS = np.geomspace(0.1, 0.9, 5)


def betting_e(plus: int, minus: int, same: int, null: float) -> float:
    """Log of an e-process against "the mean of paired differences in {−1, 0, 1} is at most null".

    It is the capital, mean over fixed bets b, of a gambler who stakes b on each difference d:
    Π (1 + b (d − null) / (1 + null)). Under the null it passes log(1/alpha) with probability at
    most alpha, however often one looks (Ville 1939). Since the bets are fixed, three counts are all
    there is to know: order does not matter, and the counts of several observers add up.

    Args:
        plus, minus, same: how many differences were 1, −1 and 0.
        null: in (−1, 1); a mean at most so high is not to be told from the null.

    Source: betting on bounded means, Waudby-Smith and Ramdas 2023 (arXiv:2010.09686), there with
    bets that learn from the past; a mixture of fixed ones as in Howard et al. 2021
    (arXiv:1810.08240).

    >>> betting_e(0, 0, 0, 0.0)
    0.0
    """
    if min(plus, minus, same) < 0 or not -1 < null < 1:
        raise ValueError(
            "an e-process needs counts >= 0 and a null in (-1, 1). "
            f"Got {plus}, {minus}, {same} and {null:g}"
        )
    bets = _BETS / (1 + null)
    logs = plus * np.log1p(bets * (1 - null)) + minus * np.log1p(-bets * (1 + null))
    return _log_mean_exp(logs + same * np.log1p(-bets * null))


def split_e(k: int, n: int, share: float) -> float:
    """Log of an e-process against "each of n falls on this side with probability `share`", both
    directions; k of n did. Beta(1, 1) over the alternatives (Lindon and Malek 2022,
    arXiv:2011.03567)."""
    if not (0 <= k <= n and 0 < share < 1):
        raise ValueError(f"a split needs 0 <= k <= n and a share in (0, 1). Got {k}, {n}, {share}")
    log_beta = float(betaln(k + 1, n - k + 1))
    return log_beta - k * math.log(share) - (n - k) * math.log1p(-share)


def _log_mean_exp(logs: NDArray[np.floating]) -> float:
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def _check_counts(k: int, n: int) -> None:
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"a rate needs 0 <= k <= n and n >= 1. Got k={k}, n={n}")
