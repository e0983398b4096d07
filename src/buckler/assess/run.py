"""assess: attack, ask the deployed system again, keep the ledger."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from buckler import draws
from buckler.assess.ledger import Ledger
from buckler.assess.target import Target
from buckler.attacks.suites import Suite
from buckler.attacks.under import threat_of
from buckler.errors import DataError, UsageError
from buckler.guard.bundle import versions
from buckler.models import Counted
from buckler.protocols import Attack, Progress, Threat
from buckler.stats import Rate, wilson
from buckler.threats import FeatureThreat, LpBall, PixelBudget
from buckler.threats.features.validate import validate

SCHEMA = "buckler.assessment/1"
_VARIANTS = 10
_TOGETHER = 500  # rows an attack gets at once
_FINE = 100  # steps of the progress an attack


@dataclass(frozen=True)
class AttackResult:
    """One attack's own figure: broken / the rows it was given.

    forwards, backwards: rows classified, rows whose gradient was taken.
    """

    attack: str
    parameters: str
    broken: int
    given: int
    forwards: int
    backwards: int
    seconds: float

    @property
    def rate(self) -> Rate:
        return wilson(self.broken, self.given)


@dataclass(frozen=True)
class Assessment:
    """One target under one threat and one suite; x_adv (n, ...) are the last points tried."""

    target: str
    knowledge: str
    threat: dict[str, object]
    suite: tuple[AttackResult, ...]
    ledger: Ledger
    seed: int
    digest: str
    seconds: float
    x_adv: Tensor

    def to_dict(self) -> dict[str, object]:
        """The assessment file: JSON as it stands."""
        return {
            "schema": SCHEMA,
            "target": self.target,
            "knowledge": self.knowledge,
            "threat": self.threat,
            "suite": [
                {**asdict(result), "rate": asdict(result.rate)}
                for result in self.suite
                if result.given
            ],
            "n": len(self.ledger.row),
            "rates": {name: asdict(rate) for name, rate in self.ledger.rates().items()},
            "seed": self.seed,
            "digest": self.digest,
            "versions": versions(),
            "seconds": round(self.seconds, 2),
        }


def assess(
    target: Target,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    suite: Suite,
    *,
    rows: Tensor | None = None,
    seed: int = 0,
    source: Target | None = None,
    each: bool = False,
    progress: Progress | None = None,
) -> Assessment:
    """Attack the rows the target gets right, and count accepted wrong answers.

    Args:
        x, y: (n, ...) in the box, (n,) the truth.
        rows: ids of the rows in the test split; draws are keyed by them.
        source: attack this one instead, and show the results to the target (a static attack);
            default: the target itself, by attackers who know all of it.
        each: every attack gets every row, for figures attack by attack; else an attack only gets
            the rows no attack before it has broken. The ledger's worst case is the same.
        progress: called with (steps done, steps), many an attack.

    Raises: DataError for no rows or inputs the spec refuses; UsageError if an attack leaves the
        threat, which would make its figure meaningless.
    """
    if not len(x):
        raise DataError("there is no data to assess: at least one row is needed. Got 0")
    spec = target.spec
    spec.check_labels(y, len(spec.check(x)))
    started = time.perf_counter()
    rows = torch.arange(len(x)) if rows is None else rows
    before, accepted_before = target.answer(x)
    count = _Count(target, x, y, threat, rows, seed)
    attacked = source or target
    right = before == y
    if not bool(right.any()):
        raise DataError(
            f"{target.name} gets 0 of {len(x)} rows right, so there is nothing to attack: do the "
            "labels follow the order of its classes?"
        )
    results = []
    for index, attack in enumerate(suite):
        given = (right if each else right & ~count.broken).nonzero()[:, 0]
        results.append(_attack(attack, attacked, count, given, seed, _step(progress, index, suite)))
    return Assessment(
        target=target.name,
        knowledge="adaptive" if source is None else "static",
        threat=threat.to_dict(),
        suite=tuple(results),
        ledger=count.ledger(before, accepted_before),
        seed=seed,
        digest=target.digest,
        seconds=time.perf_counter() - started,
        x_adv=count.x_adv,
    )


def _step(progress: Progress | None, index: int, suite: Suite) -> Callable[[float], None]:
    """Tells how far the index-th attack of the suite has come, in (0, 1]."""

    def say(share: float) -> None:
        if progress is not None:
            progress(round(_FINE * (index + share)), _FINE * len(suite))

    return say


def _attack(
    attack: Attack,
    attacked: Target,
    count: "_Count",
    given: Tensor,
    seed: int,
    say: Callable[[float], None],
) -> AttackResult:
    """A few hundred rows at a time: no attack's result depends on who shares its batch."""
    started = time.perf_counter()
    counter = Counted(attacked.view)
    broken, done = 0, 0
    for part in given.split(_TOGETHER) if len(given) else ():
        threat = count.threat.take(part).with_goal(attacked.goal)
        candidates = attack(
            counter, count.x[part], count.y[part], threat, seed=seed, rows=count.rows[part]
        )
        broken += count.take(attack, part, candidates)
        done += len(part)
        say(done / len(given))
    say(1.0)
    seconds = time.perf_counter() - started
    spent = (counter.forwards, counter.backwards)
    return AttackResult(attack.name, repr(attack), broken, len(given), *spent, seconds)


def _refused(threat: Threat, x: Tensor, candidates: Tensor) -> Tensor:
    """(n,) bool: rows of a table that the second opinion refuses: x stands in for them."""
    if not isinstance(threat, FeatureThreat):
        return torch.zeros(len(x), dtype=torch.bool)
    wrong = validate(threat, x, candidates)
    return torch.tensor([bool(each) for each in wrong], dtype=torch.bool)


class _Count:
    """Who counts is not who attacks: candidates are checked and shown to the target again."""

    def __init__(
        self, target: Target, x: Tensor, y: Tensor, threat: Threat, rows: Tensor, seed: int
    ) -> None:
        self.target, self.x, self.y, self.threat = target, x, y, threat
        self.rows, self.seed = rows, seed
        self.x_adv = x.clone()
        self.broken_by = [""] * len(x)
        self.on_grid = torch.zeros(len(x), dtype=torch.bool)

    @property
    def broken(self) -> Tensor:
        return torch.tensor([name != "" for name in self.broken_by])

    def take(self, attack: Attack, given: Tensor, candidates: Tensor) -> int:
        """Judge one attack's candidates for the rows `given`; returns how many it broke."""
        x, y, name = self.x[given], self.y[given], attack.name
        threat = threat_of(attack, self.threat).take(given)
        outside = ~threat.contains(x, candidates)
        if bool(outside.any()):
            raise UsageError(
                f"the attack {name!r} returned {int(outside.sum())} points outside the threat "
                f"({threat}): its figure would mean nothing"
            )
        points, refused = candidates.clone(), _refused(threat, x, candidates)
        points[refused] = x[refused]
        won = self._wins(points, y)
        for variant in range(_VARIANTS if self.target.random else 0):
            other = self._last_bit(x, candidates, variant, given)
            if isinstance(threat, LpBall | PixelBudget):
                other = threat.project(x, other)
            more = self._wins(other, y) & threat.contains(x, other) & ~won
            points[more] = other[more]
            won |= more
        files_too = self._on_file(x, points, threat)
        on_grid = won & self._wins(files_too, y)
        fresh = torch.tensor([self.broken_by[i] == "" for i in given.tolist()])
        keep = given[fresh]
        self.x_adv[keep] = points[fresh]
        self.on_grid[given] |= on_grid
        for i in given[fresh & won].tolist():
            self.broken_by[i] = name
        return int(won.sum())

    def ledger(self, before: Tensor, accepted_before: Tensor) -> Ledger:
        after, accepted_after = self.target.answer(self.x_adv)
        return Ledger(
            row=self.rows.numpy(),
            y=self.y.numpy(),
            prediction_before=before.numpy(),
            accepted_before=accepted_before.numpy(),
            prediction_after=after.numpy(),
            accepted_after=accepted_after.numpy(),
            broken_by=np.array(self.broken_by),
            on_grid=self.on_grid.numpy(),
            distance=self.threat.distance(self.x, self.x_adv).numpy(),
        )

    def _wins(self, x_adv: Tensor, y: Tensor) -> Tensor:
        predicted, accepted = self.target.answer(x_adv)
        return accepted & (predicted != y)

    def _on_file(self, x: Tensor, x_adv: Tensor, threat: Threat) -> Tensor:
        """The nearest file inside the threat: rounded, or cut towards x where that leaves it."""
        spec = self.target.spec
        if not spec.levels:
            return x_adv
        step = (spec.box[1] - spec.box[0]) / (spec.levels - 1)
        rounded = spec.snap(x_adv)
        shape = (-1, *[1] * (x.ndim - 1))
        cut = spec.snap(x + torch.trunc((x_adv - x) / step) * step)
        return torch.where(threat.contains(x, rounded).reshape(shape), rounded, cut)

    def _last_bit(self, x: Tensor, x_adv: Tensor, variant: int, given: Tensor) -> Tensor:
        """x_adv with one value moved by one level: a new draw for a guard keyed by content."""
        spec = self.target.spec
        low, high = spec.box
        step = (high - low) / (spec.levels - 1) if spec.levels else 1e-6 * (high - low)
        seed = draws.derive(self.seed, "last bit")
        size = x[0].numel()
        at = draws.integers(seed, self.rows[given], variant, (1,), size)
        flat = x_adv.flatten(1)
        towards = (x.flatten(1) - flat).gather(1, at)
        sign = torch.where(towards == 0, 1.0, towards.sign())
        moved = flat.scatter(1, at, (flat.gather(1, at) + sign * step).clamp(low, high))
        return moved.reshape(x.shape)
