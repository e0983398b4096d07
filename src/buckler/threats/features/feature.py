"""One column of a table: its values, what the attacker may do to it, and what that costs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from buckler.errors import UsageError

Kind = Literal["real", "integer", "ordinal", "category"]
Change = Literal["any", "none", "up", "down"]
Level = str | float
_EXACT = 2**24  # whole numbers beyond this are not all there in float32


@dataclass(frozen=True)
class Price:
    """What a change of one feature costs, in money.

    Args:
        change: for any change at all, however small.
        up, down: a unit of an increase or decrease (an ordinal's unit is one level).
        to: categories only; the price of a change to that level, instead of `change`.
        pairs: categories only; {(from, to): price}, instead of both.
    """

    change: float = 0.0
    up: float = 0.0
    down: float = 0.0
    to: Mapping[str, float] = field(default_factory=dict, hash=False)
    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Feature:
    """One column.

    Args:
        kind: "real", "integer", "ordinal" (levels in order) or "category" (levels without order).
        low, high: the range; needed where the attacker may change the column. An ordinal's or a
            category's range is its levels.
        levels: names, or, for an ordinal, numbers: then the classifier sees the numbers themselves.
            Names reach the classifier as 0, 1, 2, ...
        onehot: a category reaches the classifier as one column a level.
        change: what the attacker may do: "any", "none" (immutable), "up" or "down" only.
        price: needed where the budget is money; Price() or 0 in the file says "free".
        derived: computed from other columns, and so never changed by itself.
    """

    name: str
    kind: Kind = "real"
    low: float = -math.inf
    high: float = math.inf
    levels: tuple[Level, ...] = ()
    onehot: bool = False
    change: Change = "any"
    price: Price | None = None
    derived: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("kind", get_args(Kind)), ("change", get_args(Change))):
            if getattr(self, name) not in allowed:
                raise self._wrong(
                    f"{name} must be one of {', '.join(allowed)}", getattr(self, name)
                )
        if self.kind in ("ordinal", "category"):
            self._check_levels()
        elif self.levels or self.onehot:
            raise self._wrong("levels and onehot go with ordinals and categories", self.kind)
        elif not self.low <= self.high:
            raise self._wrong("low must be at most high", (self.low, self.high))
        elif self.kind == "integer" and not all(
            end == int(end) and abs(end) <= _EXACT for end in self.ends if math.isfinite(end)
        ):
            raise self._wrong("an integer's range must end at whole numbers up to 2^24", self.ends)
        if self.mutable and not all(map(math.isfinite, self.ends)):
            raise self._wrong(
                "what may change needs a range (low and high), or change = 'none'", self.ends
            )
        if self.derived is not None and (self.price or self.change not in ("any", "none")):
            raise self._wrong("a derived column has no price and no direction", self.derived)
        self._check_price()

    def _check_levels(self) -> None:
        if len(set(self.levels)) < max(2, len(self.levels)):
            raise self._wrong("levels must be 2 or more, all different", self.levels)
        numbers = [isinstance(level, int | float) for level in self.levels]
        if any(numbers) and not (all(numbers) and self.kind == "ordinal"):
            raise self._wrong("levels must be names, or all numbers of an ordinal", self.levels)
        if all(numbers) and list(self.levels) != sorted(self.levels):
            raise self._wrong("an ordinal's numbers must rise", self.levels)
        if self.onehot and self.kind != "category":
            raise self._wrong("onehot goes with categories", self.kind)
        if self.kind == "category" and self.change in ("up", "down"):
            raise self._wrong("a category has no up and down: make it an ordinal", self.change)
        if (self.low, self.high) != (-math.inf, math.inf):
            raise self._wrong("low and high go with numbers, levels say it all", self.ends)

    def _check_price(self) -> None:
        if self.price is None:
            return
        price, named = self.price, self.kind == "category"
        every = [price.change, price.up, price.down, *price.to.values(), *price.pairs.values()]
        if not all(math.isfinite(each) and each >= 0 for each in every):
            raise self._wrong("prices must be finite and >= 0", price)
        if named and (price.up or price.down):
            raise self._wrong(
                "a category has prices for change, to and pairs, not up or down", price
            )
        levels = [*price.to, *(level for pair in price.pairs for level in pair)]
        if unknown := [level for level in levels if not named or level not in self.levels]:
            raise self._wrong("prices of levels must name levels of a category", unknown[0])

    def _wrong(self, sentence: str, got: object) -> UsageError:
        return UsageError(f"feature {self.name!r}: {sentence}. Got {got}")

    @property
    def ends(self) -> tuple[float, float]:
        """The range of its values, as numbers."""
        if self.levels:
            return (float(self.values[0]), float(self.values[-1]))
        return (self.low, self.high)

    @property
    def values(self) -> Tensor:
        """(levels,) float64: the number of each level; names count 0, 1, 2, ..."""
        numbers = [
            float(rank if isinstance(level, str) else level)
            for rank, level in enumerate(self.levels)
        ]
        return torch.tensor(numbers, dtype=torch.float64)

    def ranks(self, column: Tensor) -> Tensor:
        """(n,) int64: the nearest level's place among the levels, for a column of numbers."""
        values, column = self.values, column.contiguous()
        above = torch.searchsorted(values, column).clamp(1, len(values) - 1)
        lower = column - values[above - 1] <= values[above] - column
        return torch.where(lower, above - 1, above)

    @property
    def mutable(self) -> bool:
        return self.change != "none" and self.derived is None

    @property
    def wide(self) -> int:
        """How many of the classifier's columns it takes."""
        return len(self.levels) if self.onehot else 1
