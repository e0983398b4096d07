"""The review rate that costs least: what a review costs against what a wrong answer costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from buckler.errors import UsageError

Numbers = Sequence[float] | NDArray[np.floating]
Flags = Sequence[bool] | NDArray[np.bool_]


@dataclass(frozen=True)
class Costs:
    """In one unit of money.

    review: a person looks at one input (c_r). wrong: one wrong answer is accepted (c_w).
    attack_share: of all inputs, those that are attacks (p).
    """

    review: float
    wrong: float
    attack_share: float

    def __post_init__(self) -> None:
        for name in ("review", "wrong"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"costs: {name} must be a number >= 0. Got {value}")
        if not 0 <= self.attack_share <= 1:
            raise UsageError(f"costs: attack_share must be in [0, 1]. Got {self.attack_share}")


@dataclass(frozen=True)
class Cheapest:
    """The threshold with the lowest cost on the rows it was chosen on.

    threshold: flag where the score lies strictly above it; −inf flags everything, inf nothing.
    review_rate: of the clean rows there; what to calibrate for, on rows that chose nothing.
    cost: expected, an input. without: the same with no review at all.
    """

    threshold: float
    review_rate: float
    cost: float
    without: float

    def rate_for(self, rows: int) -> float:
        """The review rate nearest to this that `rows` calibration rows can give."""
        smallest = 1 / (rows + 1)
        return min(max(self.review_rate, smallest), 1 - smallest)


def cheapest(
    costs: Costs,
    clean: Numbers,
    clean_wrong: Flags,
    attacked: Numbers,
    attacked_wrong: Flags,
) -> Cheapest:
    """The threshold t that minimises the expected cost of one input,

        (1 − p) · [c_r · flagged(t, clean) + c_w · accepted and wrong(t, clean)]
            + p · [c_r · flagged(t, attacked) + c_w · accepted and wrong(t, attacked)],

    the rule of Chow (1970) for rejecting, with attacks beside clean inputs; of several as cheap,
    the one that flags least. For rows of the select split: what is chosen here is a review rate,
    and the calibrate split then turns it into a threshold whose promise holds.

    The attacked rows should come from an attacker who knows the guard. They were made against one
    threshold; an attacker of another would push further or less, so choose, make them anew at the
    chosen rate, and choose once more where it moved far.

    Args:
        clean, attacked: (n,), (m,) combined scores, or `Guard.suspicion`'s.
        clean_wrong, attacked_wrong: whether the guard's answer there is wrong.

    Raises: UsageError if there are no rows of a kind, lengths differ, or a score is not finite.
    """
    p = costs.attack_share
    scores, steps, start = [], [], 0.0
    kinds = (("clean", clean, clean_wrong, 1 - p), ("attacked", attacked, attacked_wrong, p))
    for name, given, mistakes, share in kinds:
        values, wrong = np.asarray(given, np.float64), np.asarray(mistakes, bool)
        finite = np.isfinite(values)
        if not len(values) or values.shape != wrong.shape or not finite.all():
            raise UsageError(
                f"the {name} rows need one finite score, and whether it is wrong, each. Got "
                f"scores {values.shape}, wrong {wrong.shape}, not finite: {(~finite).sum()}"
            )
        # All are flagged at −inf; passing a row's score, t saves its review, and may let it harm.
        start += share * costs.review
        scores.append(values)
        steps.append(share * (costs.wrong * wrong - costs.review) / len(values))
    every, step = np.concatenate(scores), np.concatenate(steps)
    order = np.argsort(every, kind="stable")
    at = np.concatenate([[-np.inf], every[order]])
    cost = start + np.concatenate([[0.0], np.cumsum(step[order])])
    last = np.append(at[1:] > at[:-1], True)  # rows that tie are accepted together
    at, cost = at[last], cost[last]
    as_cheap = cost <= cost.min() + 1e-12 * (costs.review + costs.wrong)  # but for rounding
    best = int(as_cheap.nonzero()[0][-1])
    threshold = math.inf if best == len(cost) - 1 else float(at[best])
    rate = float((scores[0] > threshold).mean())
    return Cheapest(threshold, rate, float(cost[best]), float(cost[-1]))
