"""How few clicks put an item into a list: exact for recommenders whose scores are linear.

EASE, item-neighbourhood and other linear autoencoders score items by `history @ weights` (Steck
2019, arXiv:1905.03375) and leave out what the user has already. An attacker who can add items to
one user's history (a hijacked session, hidden clicks) wants `target` among the first `top`.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from buckler.errors import DataError, UsageError

Floats = NDArray[np.float64]
_MARGIN = 1e-5
_FIRST = 40  # competitors in the first program; others join when a solution meets them


@dataclass(frozen=True)
class Injection:
    """least: with fewer additions the target cannot enter, whatever they are. items: additions that
    bring it in, none if it is in already or cannot be brought in by what is allowed. exact: no
    smaller set does it. possible: None where time ran out before either was known."""

    least: int
    items: tuple[int, ...]
    exact: bool
    possible: bool | None


def listed(weights: Floats, history: Floats, target: int, top: int) -> bool:
    """Whether fewer than `top` items unseen by this history (m,) score at least as much as the
    target: ties go against the attacker. A target that the user has already is in no list."""
    if history[target] > 0:
        return False
    scores = history @ weights
    rivals = (history == 0) & (scores >= scores[target])
    return int(rivals.sum()) - 1 < top


def least_injection(
    weights: Floats,
    history: Floats,
    target: int,
    *,
    top: int = 10,
    allowed: Sequence[int] | None = None,
    seconds: float = 20.0,
) -> Injection:
    """The fewest items, each once, that bring the target into the list.

    A lower bound first: with k additions at most k rivals leave the list by having been added, and
    every other rival must be passed by the k steepest additions against it alone. Then a
    mixed-integer program over which are added and which `top - 1` rivals may stay ahead, its
    solution counted by `listed`. A rival passed by less than 1e-5 of the largest step or gap
    counts as not passed: the program's arithmetic is no finer.

    Args:
        weights: (m, m); the score of item j is history @ weights[:, j].
        history: (m,) of how often the user had each item.
        allowed: what may be added; default: every item not in the history but the target.
        seconds: of the program, after which the bound alone is told.

    Raises: UsageError for a target or items that are not among the m; DataError for weights that
        are not finite or not square.
    """
    free = _checked(weights, history, target, top, allowed)
    if listed(weights, history, target, top):
        return Injection(0, (), True, True)
    if history[target] > 0:
        return Injection(0, (), True, False)
    rivals = np.flatnonzero(history == 0)
    rivals = rivals[rivals != target]
    scores = history @ weights
    gaps = scores[rivals] - scores[target]
    steps = weights[free, target, None] - weights[np.ix_(free, rivals)]  # (free, rivals)
    least = _bound(gaps, steps, np.isin(rivals, free), top)
    if least > len(free):
        return Injection(least, (), True, False)
    return _solved(weights, history, target, top, free, rivals, gaps, steps, least, seconds)


def _checked(
    weights: Floats, history: Floats, target: int, top: int, allowed: Sequence[int] | None
) -> NDArray[np.int64]:
    m = len(history)
    if weights.shape != (m, m) or not np.isfinite(weights).all():
        raise DataError(f"weights must be finite and ({m}, {m}), as the history. "
                        f"Got {weights.shape}")  # fmt: skip
    if not 0 <= target < m or top < 1:
        raise UsageError(f"target must be 0 to {m - 1} and top at least 1. Got {target} and {top}")
    asked = np.arange(m) if allowed is None else np.unique(np.asarray(allowed, np.int64))
    if len(asked) and not (asked[0] >= 0 and asked[-1] < m):
        raise UsageError(f"allowed items must be 0 to {m - 1}. Got {asked[0]} to {asked[-1]}")
    free: NDArray[np.int64] = asked[(history[asked] == 0) & (asked != target)]
    return free


def _bound(gaps: Floats, steps: Floats, addable: NDArray[np.bool_], top: int) -> int:
    """The least k that is not ruled out; len(steps) + 1 if every one is."""
    best = -np.sort(-steps, axis=0)
    gained = np.zeros(len(gaps))
    for k in range(len(steps) + 1):
        ahead = (
            gained <= gaps
        )  # whoever is not passed by the k steepest, however the rest is chosen
        removed = min(k, int((ahead & addable).sum()))
        if int(ahead.sum()) - removed < top:
            return k
        if k < len(steps):
            gained = gained + best[k]
    return len(steps) + 1


def _solved(
    weights: Floats,
    history: Floats,
    target: int,
    top: int,
    free: NDArray[np.int64],
    rivals: NDArray[np.int64],
    gaps: Floats,
    steps: Floats,
    least: int,
    seconds: float,
) -> Injection:
    """Rivals join the program when a solution leaves more of them ahead than it counted."""
    until = time.monotonic() + seconds
    inside = np.sort(np.argsort(-gaps, kind="stable")[: max(_FIRST, 2 * top)])
    while True:
        left = until - time.monotonic()
        found = _program(free, rivals[inside], gaps[inside], steps[:, inside], top, least, left)
        if found is None:
            return Injection(least, (), False, None)
        chosen, status = found
        if status == "none":
            return Injection(least, (), True, False)
        after = history.copy()
        after[chosen] += 1
        least = max(least, len(chosen) if status == "best" else least)
        if listed(weights, after, target, top):
            return Injection(least, tuple(chosen.tolist()), status == "best", True)
        scores = after @ weights
        ahead = np.flatnonzero((after[rivals] == 0) & (scores[rivals] >= scores[target]))
        new = np.setdiff1d(ahead, inside)
        if not len(new):  # a tie within the program's tolerance: the bound stands
            return Injection(least, (), False, None)
        inside = np.union1d(inside, new)


def _program(
    free: NDArray[np.int64],
    rivals: NDArray[np.int64],
    gaps: Floats,
    steps: Floats,
    top: int,
    least: int,
    seconds: float,
) -> tuple[NDArray[np.int64], str] | None:
    """(additions, "best" or "some"), ((), "none") if nothing does it; None out of time."""
    if seconds <= 0:
        return None
    n, r = len(free), len(rivals)
    scale = max(1.0, float(np.abs(gaps).max(initial=0)), float(np.abs(steps).max(initial=0)))
    # An addition lifts the target over rival j by steps[:, j]; a rival that is added, or is one of
    # the top - 1 that may stay ahead, need not be passed.
    slack = gaps - np.minimum(steps, 0).sum(0) + 0.1 * scale
    passed = np.zeros((r, n + r))
    passed[:, :n] = steps.T
    passed[np.arange(r), n + np.arange(r)] = slack
    at = {int(item): index for index, item in enumerate(free)}
    for row, item in enumerate(rivals.tolist()):
        if item in at:
            passed[row, at[item]] += slack[row]
    ahead = np.concatenate([np.zeros(n), np.ones(r)])[None]
    count = np.concatenate([np.ones(n), np.zeros(r)])
    found = milp(
        count,
        integrality=np.ones(n + r),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(passed, gaps + _MARGIN * scale, np.inf),
            LinearConstraint(ahead, 0, top - 1),
            LinearConstraint(count[None], least, np.inf),
        ],
        options={"time_limit": seconds},
    )
    if found.status == 2:
        return np.empty(0, np.int64), "none"
    if found.x is None:
        return None
    chosen = free[found.x[:n] > 0.5]
    proved = found.status == 0 or math.ceil((found.mip_dual_bound or 0) - 1e-6) >= len(chosen)
    return chosen, "best" if proved else "some"
