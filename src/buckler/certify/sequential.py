"""Randomized smoothing that stops as soon as it knows: "certified at this radius, or not"."""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, log
from typing import Final

from scipy.special import bdtr, bdtrc
from scipy.stats import norm
from torch import Tensor

from buckler.certify.smoothing import check_budget, counts, quick
from buckler.errors import UsageError
from buckler.protocols import Classifier, Progress
from buckler.verdict import Certificate

_FIRST: Final = 32  # draws before the first look
_GROWTH: Final = 1.25  # of the draws, from one look to the next


def certify_at(
    model: Classifier,
    x: Tensor,
    *,
    sigma: float,
    radii: Sequence[float],
    n: int = 100_000,
    n0: int = 100,
    alpha: float = 0.001,
    give_up: float = 0.05,
    seed: int = 0,
    rows: Tensor | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> list[Certificate]:
    """Certificates at the largest of the given radii that could be certified.

    The promise is that of `certify`: with probability at least 1 − alpha over a row's draws, the
    smoothed classifier answers `label` within `radius`. n0 draws guess the label and are not used
    again. Fresh ones then test "its probability is at most Φ(radius / sigma)" at looks that are
    fixed beforehand, by exact binomial tails that share alpha among them (alpha spending, Lan and
    DeMets 1983; `levels_of`): a clear row takes some dozens of draws and only a row at the border
    takes `n`. A larger radius counts only once all smaller ones are certified, which keeps alpha
    for all of them together (fixed-sequence testing: the smallest false one must fall first).

    Args:
        x: (n rows, ...) input units, as sigma and the radii are.
        radii: > 0.
        n: draws after which a row that is not decided abstains from the radii left.
        give_up: with at most this probability a row that could be certified is given up early.
        rows: ids of the rows, by which their noise is keyed; 0..n−1 if none are given.
        batch: noisy inputs in one forward pass; None: as many as a cache holds.

    Raises: UsageError for sigma <= 0, no radius, or one that n draws cannot reach.
    """
    wanted, bars = sorted(radii), bars_of(sigma, radii, n, n0, alpha)
    found = []
    model = quick(model, x, sigma, n)
    ids = range(len(x)) if rows is None else rows.tolist()
    for index, row in enumerate(ids):
        drawn = partial(counts, model, x[index], sigma, seed=seed, row=row, batch=batch)
        guess = int(drawn(range(n0), purpose="guess").argmax())
        fresh = partial(drawn, purpose="test")
        reached, used = climb(fresh, guess, bars, n, alpha, give_up)
        label, radius = (guess, wanted[reached - 1]) if reached else (None, 0.0)
        found.append(Certificate(label, radius, sigma, alpha, used))
        if progress is not None:
            progress(index + 1, len(x))
    return found


def bars_of(sigma: float, radii: Sequence[float], n: int, n0: int, alpha: float) -> list[float]:
    """What the guess's probability must pass for each radius, smallest first.

    Raises: UsageError as certify_at does.
    """
    check_budget(sigma, n0, alpha)
    wanted = sorted(radii)
    if not wanted or wanted[0] <= 0:
        raise UsageError(f"certify_at needs radii > 0. Got {list(radii)}")
    bars = [float(norm.cdf(radius / sigma)) for radius in wanted]
    if bars[-1] ** n > alpha:
        raise UsageError(
            f"{n} draws can never certify radius {wanted[-1]:g} at sigma {sigma:g} and alpha "
            f"{alpha:g}: take more draws, or a larger sigma"
        )
    return bars


def climb(
    drawn: Callable[[range], Tensor],
    guess: int,
    bars: Sequence[float],
    n: int,
    alpha: float,
    give_up: float,
) -> tuple[int, int]:
    """How many of the bars the guess's probability passes, in order, and the draws it took.

    Args:
        drawn: the answers among draws of these numbers, by class.
    """
    levels = [levels_of(bar, n, alpha) for bar in bars]
    points = sorted({*looks(n), *(each for level in levels for each in level)})
    reached = hit = used = 0
    for upto in points:
        hit += int(drawn(range(used, upto))[guess])
        used = upto
        while reached < len(bars) and upto in levels[reached]:
            if bdtrc(hit - 1, upto, bars[reached]) > levels[reached][upto]:
                break
            reached += 1
        if reached == len(bars) or bdtr(hit, upto, bars[reached]) <= give_up / len(points):
            break
    return reached, used


def looks(n: int) -> list[int]:
    """The numbers of draws at which it is looked, n the last."""
    found = [min(n, _FIRST)]
    while found[-1] < n:
        found.append(min(n, int(found[-1] * _GROWTH) + 1))
    return found


def levels_of(bar: float, n: int, alpha: float) -> dict[int, float]:
    """The looks at which this bar may be passed, each with its share of alpha: 0.3 where a vote
    without dissent passes first, which is where clear rows end; 0.4 at n, so that n draws certify
    nearly what they would without looks; the rest between."""
    first = ceil(log(0.3 * alpha) / log(bar))
    if first >= n:
        return {n: alpha}
    between = [each for each in looks(n) if 1.2 * first < each < n]
    if not between:
        return {first: 0.3 * alpha, n: 0.7 * alpha}
    return {
        first: 0.3 * alpha,
        **dict.fromkeys(between, 0.3 * alpha / len(between)),
        n: 0.4 * alpha,
    }
