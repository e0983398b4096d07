"""The attacker of a table: the rules of the spec, and money or a distance to spend."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from buckler import draws
from buckler.errors import UsageError
from buckler.threats.features.cost import cost, distance
from buckler.threats.features.legal import legal
from buckler.threats.features.reach import Reach, reaches
from buckler.threats.features.repair import repair
from buckler.threats.features.spec import FeatureSpec
from buckler.threats.goal import Goal

Unit = Literal["money", "l2", "l1", "linf", "changes"]
ROUNDING = 1e-5  # of the budget: what float32 storage may add to a cost or distance
_HALVINGS = 12
BALLS = ("l2", "l1", "linf")  # units in which half a change spends half as much


@dataclass(frozen=True)
class FeatureThreat:
    """The attacker may change a row within the spec's rules and the budget.

    Args:
        spec: columns, rules, prices.
        budget: money, or a distance: each change as a share of its feature's range (min to max is
            1), or how many changes; one number or a tensor (n,). math.inf: no limit.
        unit: "money", "l2", "l1", "linf" or "changes".
        profit: the attack must pay: gain − cost > 0, with the gain of the row in `spec.gain`, and
            the unit money.
        goal: which answers count as a win.

    Raises: UsageError for a budget that its unit cannot hold, and for prices that are missing.
    """

    spec: FeatureSpec
    budget: float | Tensor
    unit: Unit = "money"
    profit: bool = False
    goal: Goal = field(default_factory=Goal)

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise UsageError(f"unit must be one of {', '.join(get_args(Unit))}. Got {self.unit!r}")
        budget = torch.as_tensor(self.budget)
        if budget.ndim > 1 or bool((torch.isnan(budget) | (budget < 0)).any()):
            raise UsageError(
                f"budget must be >= 0, one number or a tensor (n,), one a row. Got {self.budget}"
            )
        finite = budget[torch.isfinite(budget)]
        largest = float(finite.max()) if len(finite.flatten()) else 0.0
        if self.unit == "money":
            self._check_prices()
        elif self.profit:
            raise UsageError(f"a profit is money: unit must be 'money'. Got {self.unit!r}")
        else:
            self._check_distance(largest)
        if self.profit and self.spec.gain is None:
            raise UsageError(
                "a profit needs the spec's gain: the column that says what a row earns"
            )

    def _check_prices(self) -> None:
        free = [each.name for each in self.spec.features if each.mutable and each.price is None]
        if free:
            raise UsageError(
                f"a budget in money needs a price for each feature that may change. None: "
                f"{', '.join(free[:5])}{' ...' * (len(free) > 5)}. Give a price (0: free), or a "
                "budget in l2, l1, linf or changes"
            )

    def _check_distance(self, largest: float) -> None:
        """Money taken for a distance would make every row reachable."""
        count = max(1, len(self.spec.mutable))
        two = 2 * count  # a category counts twice
        corner = {"l2": two**0.5, "l1": two, "linf": 1.0, "changes": count}[self.unit]
        if largest > corner:
            raise UsageError(
                f"a budget in {self.unit} is a "
                f"{'number of changes' if self.unit == 'changes' else 'share of the ranges'}, at "
                f"most {corner:.4g} with {count} features that may change. Got {largest:g}: did "
                "you mean unit = 'money'?"
            )

    def __str__(self) -> str:
        budget = "per row" if isinstance(self.budget, Tensor) else f"{self.budget:.4g}"
        paying = " at a profit" if self.profit else ""
        return (f"${budget}" if self.unit == "money" else f"{self.unit} {budget}") + paying

    @property
    def box(self) -> tuple[float, float]:
        """The smallest and the largest value of any feature."""
        ends = [(0.0, 1.0) if each.onehot else each.ends for each in self.spec.features]
        return (min(low for low, _ in ends), max(high for _, high in ends))

    def spent(self, start: Tensor, raw: Tensor) -> Tensor:
        """(n,) of the budget, from raw rows to raw rows, in its unit."""
        if self.unit == "money":
            return cost(self.spec, start, raw)
        return distance(self.spec, self.unit, start, raw)

    def limit(self, start: Tensor) -> Tensor:
        """(n,) the most that may be spent on each raw row; a profit stops a cent's millionth short
        of the gain."""
        budget = torch.as_tensor(self.budget).double().cpu().expand(len(start))
        if self.profit:
            assert self.spec.gain is not None
            gain = start[:, self.spec.names.index(self.spec.gain)]
            budget = torch.minimum(budget, (gain * (1 - 2 * ROUNDING) - 1e-6).clamp(min=0))
        return budget

    def affordable(self, start: Tensor, raw: Tensor) -> Tensor:
        """(n,) bool, of raw rows."""
        limit = self.limit(start)
        return self.spent(start, raw) <= limit * (1 + ROUNDING) + 1e-7

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) what the change costs, in money or the budget's distance."""
        return self.spent(self.spec.decode(x), self.spec.decode(x_adv)).to(x)

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) bool: the spec lets the attacker send x_adv instead of x, within the budget."""
        start, raw = self.spec.decode(x), self.spec.decode(x_adv)
        stored = (self.spec.encode(raw, like=x_adv) == x_adv).all(1)
        fine = (legal(self.spec, start, raw) & self.affordable(start, raw)).to(x.device)
        return stored & fine | (x_adv == x).all(1)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """A point of the threat near x_adv: snapped, mended, drawn back towards x until it can be
        paid; x itself where nothing else was found. Not always the nearest one."""
        start = self.spec.decode(x)
        raw = self.fitted(start, self.spec.decode(x_adv))
        unchanged = (raw == start).all(1).to(x.device)[:, None]
        return torch.where(unchanged, x, self.spec.encode(raw, like=x))

    def fitted(self, start: Tensor, asked: Tensor) -> Tensor:
        """`project` on raw rows."""
        best, low, high = start.clone(), torch.zeros(len(start)), torch.ones(len(start))
        share = torch.ones(len(start))
        left = torch.arange(len(start))
        for _ in range(_HALVINGS):
            towards = start[left] + share[left, None].double() * (asked - start)[left]
            towards = self._named(start[left], asked[left], towards, share[left])
            raw = repair(self.spec, start[left], towards)
            fine = legal(self.spec, start[left], raw) & self.take(left).affordable(start[left], raw)
            best[left[fine]] = raw[fine]
            low[left[fine]], high[left[~fine]] = share[left[fine]], share[left[~fine]]
            left = left[(share[left] < 1) | ~fine]  # a share of 1 that fits is done
            share = (low + high) / 2
            if not len(left):
                break
        return best

    def _named(self, start: Tensor, asked: Tensor, towards: Tensor, share: Tensor) -> Tensor:
        """Levels of a category have no halfway: they stay changed above a share of one half."""
        for index in self.spec.mutable:
            if self.spec.features[index].kind == "category":
                keep = share > 0.5
                towards[:, index] = torch.where(keep, asked[:, index], start[:, index])
        return towards

    def steepest(self, grad: Tensor) -> Tensor:
        """The direction, in the classifier's columns, along which scaled changes of norm 1 raise
        a linear function with this gradient most; L2 where the budget is money or changes."""
        ranges = self.ranges(grad)
        slope = grad * ranges
        if self.unit == "linf":
            return slope.sign() * ranges
        if self.unit == "l1":
            top = slope.abs().argmax(1, keepdim=True)
            return torch.zeros_like(slope).scatter(1, top, slope.gather(1, top).sign()) * ranges
        length = torch.linalg.vector_norm(slope, dim=1, keepdim=True)
        unit: Tensor = slope / length.clamp_min(torch.finfo(grad.dtype).tiny)
        return unit * ranges

    def ranges(self, like: Tensor) -> Tensor:
        """(width,) how wide each classifier's column is; 0 where the attacker can move nothing."""
        wide = []
        for each, way in zip(self.spec.features, self.reaches, strict=True):
            low, high = (0.0, 1.0) if each.onehot else each.ends
            wide += [(high - low) if each.mutable and way != "none" else 0.0] * each.wide
        return torch.tensor(wide).to(like)

    @property
    def reaches(self) -> tuple[Reach, ...]:
        """For each feature, where the largest of the rows' budgets lets it go."""
        return reaches(self.spec, self.unit, float(torch.as_tensor(self.budget).max()))

    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """A random value in each feature that may change, drawn back into the budget."""
        spec, start = self.spec, self.spec.decode(x)
        asked = start.clone()
        u = draws.uniform(seed, rows.cpu(), step, (len(spec.features),)).double()
        for index in spec.mutable:
            feature = spec.features[index]
            low, high = feature.ends
            asked[:, index] = low + (high - low) * u[:, index]
            if feature.levels:
                asked[:, index] = feature.values[(u[:, index] * len(feature.levels)).long()]
        raw = self.fitted(start, asked)
        return torch.where((raw == start).all(1).to(x.device)[:, None], x, spec.encode(raw, like=x))

    def take(self, idx: Tensor | slice) -> Self:
        """The threat of some of the rows."""
        each = isinstance(self.budget, Tensor) and self.budget.ndim == 1
        budget = self.budget[idx] if each else self.budget  # type: ignore[index]
        return replace(self, budget=budget, goal=self.goal.take(idx))

    def with_goal(self, goal: Goal) -> Self:
        return replace(self, goal=goal)

    def unbounded(self, x: Tensor) -> Self:
        """The same rules with no limit on what is spent."""
        return replace(self, budget=math.inf, profit=False)

    def to_dict(self) -> dict[str, object]:
        budget: object = self.budget.tolist() if isinstance(self.budget, Tensor) else self.budget
        return {
            "kind": "features",
            "budget": None if budget == math.inf else budget,
            "unit": self.unit,
            "profit": self.profit,
            "features": len(self.spec.features),
            "mutable": [self.spec.names[index] for index in self.spec.mutable],
            "rules": [str(rule) for rule in self.spec.rules],
            "goal": self.goal.kind,
        }
