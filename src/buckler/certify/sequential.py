"""Randomized smoothing that stops as soon as it knows: "certified at this radius, or not"."""

from collections.abc import Callable, Sequence
from functools import partial
from math import log
from typing import Final

from scipy.stats import norm
from torch import Tensor

from buckler.certify.smoothing import check_budget, counts
from buckler.errors import UsageError
from buckler.protocols import Classifier, Progress
from buckler.stats import share_e
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
    give_up: float = 0.01,
    seed: int = 0,
    rows: Tensor | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> list[Certificate]:
    """Certificates at the largest of the given radii that could be certified.

    The promise is that of `certify`: with probability at least 1 − alpha over a row's draws, the
    smoothed classifier answers `label` within `radius`. n0 draws guess the label and are not used
    again. Fresh ones then bet against "its probability is at most Φ(radius / sigma)": an e-process
    keeps alpha at every look, so a clear row takes some dozens of draws and only a row at the
    border takes `n`. A larger radius counts only once all smaller ones are certified, which keeps
    alpha for all of them together (fixed-sequence testing: the smallest false one must fall
    first).

    Args:
        x: (n rows, ...) input units, as sigma and the radii are.
        radii: > 0.
        n: draws after which a row that is not decided abstains from the radii left.
        give_up: with at most this probability a row that could be certified is given up early.
        rows: ids of the rows, by which their noise is keyed; 0..n−1 if none are given.
        batch: noisy inputs in one forward pass; None: as many as a cache holds.

    Raises: UsageError for sigma <= 0, no radius, or one that n draws cannot reach.
    """
    check_budget(sigma, n0, alpha)
    wanted = sorted(radii)
    if not wanted or wanted[0] <= 0:
        raise UsageError(f"certify_at needs radii > 0. Got {list(radii)}")
    bars = [float(norm.cdf(radius / sigma)) for radius in wanted]
    if share_e(n, n, bars[-1]) < log(1 / alpha):
        raise UsageError(
            f"{n} draws can never certify radius {wanted[-1]:g} at sigma {sigma:g} and alpha "
            f"{alpha:g}: take more draws, or a larger sigma"
        )
    found = []
    ids = range(len(x)) if rows is None else rows.tolist()
    for index, row in enumerate(ids):
        drawn = partial(counts, model, x[index], sigma, seed=seed, row=row, batch=batch)
        guess = int(drawn(range(n0), purpose="guess").argmax())
        fresh = partial(drawn, purpose="bet")
        reached, used = climb(fresh, guess, bars, n, log(1 / alpha), log(1 / give_up))
        label, radius = (guess, wanted[reached - 1]) if reached else (None, 0.0)
        found.append(Certificate(label, radius, sigma, alpha, used))
        if progress is not None:
            progress(index + 1, len(x))
    return found


def climb(
    drawn: Callable[[range], Tensor],
    guess: int,
    bars: Sequence[float],
    n: int,
    sure: float,
    enough: float,
) -> tuple[int, int]:
    """How many of the bars the guess's probability passes, in order, and the draws it took.

    Args:
        drawn: the answers among draws of these numbers, by class.
        sure, enough: logs of the capital at which a bar is passed, or given up.
    """
    reached = hit = used = 0
    while reached < len(bars) and used < n:
        upto = min(n, max(_FIRST, int(used * _GROWTH) + 1))
        hit += int(drawn(range(used, upto))[guess])
        used = upto
        while reached < len(bars) and share_e(hit, used, bars[reached]) >= sure:
            reached += 1
        if reached < len(bars) and share_e(used - hit, used, 1 - bars[reached]) >= enough:
            break
    return reached, used
