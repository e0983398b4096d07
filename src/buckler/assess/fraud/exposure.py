"""What each fraud costs to be let through, by the attack that ran: all money rests on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from buckler import files
from buckler.errors import DataError, UsageError
from buckler.ops.impact import Range
from buckler.protocols import Attack, Classifier
from buckler.threats.features import FeatureThreat
from buckler.threats.features.validate import validate

Json = dict[str, Any]
Floats = NDArray[np.float64]
_SCHEMA = "buckler.exposure/1"
_DRAWS = 1000
_CENT = 1e-6  # what float32 may add to a price


@dataclass(frozen=True)
class Exposure:
    """Frauds, one entry each, and the least that was found to get each through.

    Args:
        name: of the model.
        attack: what looked; exact: nothing cheaper exists.
        budget: the most that was spent on one row.
        price: (n,) money; 0 for those let through as they are, inf where nothing was found.
        gain: (n,) what a fraud earns whoever gets it through.
        changed: of each row that is evaded the features that were set, for that price.
        segment: of each row.
        share: the share of the weeks' frauds that were attacked.
        weeks: the time in which those frauds came.
        invalid: rows that the validator refused; they are not counted as evaded.
    """

    name: str
    attack: str
    exact: bool
    budget: float
    price: tuple[float, ...]
    gain: tuple[float, ...]
    changed: tuple[tuple[str, ...], ...]
    segment: tuple[str, ...]
    share: float
    weeks: float
    invalid: int = 0

    def __post_init__(self) -> None:
        lengths = {len(each) for each in (self.price, self.gain, self.changed, self.segment)}
        if len(lengths) > 1 or not self.price:
            raise UsageError(f"an exposure needs frauds, and all of each. Got lengths {lengths}")
        if not 0 < self.share <= 1 or not self.weeks > 0:
            raise UsageError(
                "money a week needs the share of frauds attacked, in (0, 1], and weeks > 0. "
                f"Got {self.share} and {self.weeks}"
            )

    @cached_property
    def prices(self) -> Floats:
        return np.array(self.price)

    @cached_property
    def gains(self) -> Floats:
        return np.array(self.gain)

    def let_through(self, budget: float) -> NDArray[np.bool_]:
        """(n,) bool: evaded by whoever spends at most so much a fraud, and less than it pays."""
        paying = (self.prices <= 0) | (self.prices < self.gains)
        return np.asarray((self.prices <= budget + _CENT) & paying)

    def evaded(self, budget: float) -> Range:
        """Money let through a week."""
        return self._a_week(np.where(self.let_through(budget), self.gains, 0.0))

    def kept(self, budget: float) -> Range:
        """What the attackers keep of it a week, after what they spend on rows that get through."""
        won = self.let_through(budget)
        return self._a_week(np.where(won, self.gains - np.where(won, self.prices, 0.0), 0.0))

    def break_even(self) -> Range:
        """What a further cost of every attempt (a stolen identity, a fee) must reach for fraud to
        stop paying: the mean an attempt keeps now, at the attacker's best budget."""
        won = self.let_through(math.inf)
        values = np.where(won, self.gains - np.where(won, self.prices, 0.0), 0.0)
        return _bootstrap(values, 1 / len(values))

    def recall(self, budget: float) -> tuple[int, int]:
        """(still caught, all)."""
        return int((~self.let_through(budget)).sum()), len(self.price)

    def _a_week(self, values: Floats) -> Range:
        return _bootstrap(values, 1 / self.share / self.weeks)

    def save(self, path: Path) -> None:
        files.write_json(
            path,
            {
                "schema": _SCHEMA,
                **{name: getattr(self, name) for name in _PLAIN},
                "price": [None if math.isinf(each) else each for each in self.price],
            },
        )

    @classmethod
    def load(cls, path: Path) -> "Exposure":
        """Raises: DataError for a file that is no exposure."""
        value: Json = files.read_json(path)
        if value.get("schema") != _SCHEMA:
            raise DataError(f"{path} must be an exposure ({_SCHEMA}). Got {value.get('schema')!r}")
        try:
            plain = {name: value[name] for name in _PLAIN}
            price = tuple(math.inf if each is None else float(each) for each in value["price"])
        except KeyError as error:
            raise DataError(f"{path} has no {error}: write it anew") from None
        plain |= {name: tuple(plain[name]) for name in ("gain", "segment")}
        plain["changed"] = tuple(map(tuple, plain["changed"]))
        return cls(**plain, price=price)


_PLAIN = (
    "name", "attack", "exact", "budget", "gain", "changed", "segment", "share", "weeks", "invalid",
)  # fmt: skip


def paired_ratio(now: Exposure, before: Exposure, budget: float) -> Range:
    """Money evaded now / before − 1 at one budget, with a 95 % bootstrap interval over the frauds,
    which are the same in both; infinite where nothing was evaded before and something is now.

    Raises: DataError if they are not the same frauds.
    """
    if now.gain != before.gain or now.segment != before.segment:
        raise DataError("the two exposures are about different frauds: measure both on the same")
    sums = []
    for each in (now, before):
        values = np.where(each.let_through(budget), each.gains, 0.0) / each.share / each.weeks
        sums.append(np.append(_counts(len(values)) @ values, values.sum()))
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = np.where(sums[1] > 0, sums[0] / sums[1] - 1, np.where(sums[0] > 0, np.inf, 0.0))
    low, high = np.quantile(rise[:-1], [0.025, 0.975], method="nearest")
    return Range(float(rise[-1]), float(low), float(high))


def _bootstrap(values: Floats, scale: float) -> Range:
    sums = _counts(len(values)) @ values * scale
    low, high = np.quantile(sums, [0.025, 0.975])
    return Range(float(values.sum() * scale), float(low), float(high))


def _counts(n: int) -> Floats:
    """(draws, n): how often each row is drawn, n rows a draw."""
    random = np.random.default_rng(0)
    return random.multinomial(n, np.full(n, 1 / n), _DRAWS).astype(np.float64)


def measure(
    name: str,
    model: Classifier,
    x: Tensor,
    threat: FeatureThreat,
    attack: Attack,
    *,
    weeks: float,
    share: float = 1.0,
    segment: Sequence[str] | None = None,
    exact: bool = False,
    seed: int = 0,
) -> Exposure:
    """Attack the frauds x (n, width) as they would be sent, and price what gets through.

    Args:
        model: answers 1 for an alert (`Alerting`).
        segment: (n,) a word for each row; all of one if not given.
        exact: the attack is `Enumerate`, over values that miss nothing.

    Raises: UsageError where the spec names no gain, or the threat is not in money.
    """
    spec = threat.spec
    if spec.gain is None or threat.unit != "money":
        raise UsageError("money at risk needs the spec's gain, and a threat in money")
    if not len(x):
        raise UsageError("money at risk needs frauds. Got 0")
    y = torch.ones(len(x), dtype=torch.int64)
    caught = model(x).argmax(1) == 1
    x_adv = x.clone()
    if bool(caught.any()):
        rows = caught.nonzero()[:, 0]
        taken = threat.take(rows)
        x_adv[rows] = attack(model, x[rows], y[rows], taken, seed=seed, rows=rows)
    wrong = torch.tensor([bool(said) for said in validate(threat, x, x_adv)])
    won = (model(x_adv).argmax(1) != 1) & ~wrong
    price = torch.where(won, threat.distance(x, x_adv).double(), math.inf)
    start, raw = spec.decode(x), spec.decode(x_adv)
    moved = (raw != start) & won[:, None]
    changed = tuple(tuple(spec.names[at] for at in spec.mutable if bool(row[at])) for row in moved)
    return Exposure(
        name=name,
        attack=attack.name,
        exact=exact,
        budget=float(torch.as_tensor(threat.budget).max()),
        price=tuple(price.tolist()),
        gain=tuple(start[:, spec.names.index(spec.gain)].tolist()),
        changed=changed,
        segment=tuple(map(str, segment)) if segment is not None else ("all",) * len(x),
        share=share,
        weeks=weeks,
        invalid=int(wrong.sum()),
    )
