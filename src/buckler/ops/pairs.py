"""Two bundles on the same inputs: counts of how they differ, and what these counts prove.

A pair is one input that both judged; its difference is 1, −1 or 0. Three sums say all that the
e-process needs, so gateways add theirs up. Pairs of one client are alike: each adds at most so
many, and the verdict must also stand without the client who moved it most.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Final

from buckler.stats import betting_e


@dataclass(frozen=True)
class Pairs:
    """plus, minus, same: pairs where the candidate's value was higher, lower, equal."""

    plus: int = 0
    minus: int = 0
    same: int = 0

    @property
    def n(self) -> int:
        return self.plus + self.minus + self.same

    @property
    def mean(self) -> float | None:
        """candidate − stable; None before the first pair."""
        return (self.plus - self.minus) / self.n if self.n else None

    def __add__(self, other: "Pairs") -> "Pairs":
        return Pairs(self.plus + other.plus, self.minus + other.minus, self.same + other.same)

    def __sub__(self, other: "Pairs") -> "Pairs":
        return Pairs(self.plus - other.plus, self.minus - other.minus, self.same - other.same)

    @property
    def turned(self) -> "Pairs":
        """stable − candidate."""
        return Pairs(self.minus, self.plus, self.same)

    def seen(self, difference: int) -> "Pairs":
        """With one more pair, of this sign."""
        return self + Pairs(difference > 0, difference < 0, difference == 0)


NO_PAIRS: Final = Pairs()


def total(parts: Iterable[Pairs]) -> Pairs:
    return sum(parts, NO_PAIRS)


def above(pairs: Pairs, tolerance: float, heavy: Sequence[Pairs] = (), left_out: int = 0) -> float:
    """Log e-value against "the candidate's rate is at most `tolerance` above the stable one's".

    Args:
        heavy: pairs of single clients, those among them who raised it most.
        left_out: the value must also stand without so many of them: the smaller one is given. What
            is smaller than an e-value keeps its promise.
    """
    whole = betting_e(pairs.plus, pairs.minus, pairs.same, tolerance)
    if not left_out:
        return whole
    heaviest = sorted(heavy, key=lambda each: each.plus - each.minus, reverse=True)[:left_out]
    rest = pairs - total(heaviest)
    return min(whole, betting_e(rest.plus, rest.minus, rest.same, tolerance))


def either(one: float, other: float) -> float:
    """Log of the mean of two e-values, given as logs: an e-value too, whatever they share, and at
    most log 2 under the greater."""
    return max(one, other) + log((1 + exp(-abs(one - other))) / 2)


def below(pairs: Pairs, margin: float) -> float:
    """Log e-value against "the candidate's rate is `margin` or more above the stable one's": what
    a candidate must show before more clients come to it."""
    return betting_e(pairs.minus, pairs.plus, pairs.same, -margin)
