"""What the review rate buys: the guard at several thresholds, each attacked anew.

Points made against one threshold lie just under it, so counting them at another would flatter the
stricter ones. Here the attacker knows each threshold in turn.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buckler.assess.ledger import Ledger
from buckler.assess.run import assess
from buckler.assess.target import Target, of_guard
from buckler.attacks import PGD
from buckler.guard import Calibrated, Guard
from buckler.protocols import Progress, Threat
from buckler.stats import wilson
from buckler.threats import Goal

Json = dict[str, Any]
Count = tuple[int, int]
RATES = (0.005, 0.01, 0.02, 0.05, 0.10, 0.20)


@dataclass(frozen=True)
class Counts:
    """(k, n) each. missed: attacked, accepted and wrong / right at first. flagged_attacks: the
    attack failed, and its last point was sent to review / right at first. flagged_clean: clean
    inputs sent to review / all."""

    missed: Count
    flagged_attacks: Count
    flagged_clean: Count


def tradeoff(
    guard: Guard,
    x: Tensor,
    y: Tensor,
    static: Tensor,
    threat: Threat,
    *,
    rows: Tensor,
    seed: int = 0,
    steps: int = 40,
    progress: Progress | None = None,
) -> Json:
    """The guard at each review rate that its calibration rows allow, at its own and at none, under
    selective PGD; and how it scores points that know nothing of it.

    Args:
        static: (n, ...) points made for the undefended classifier from x.

    Returns: points (review rate asked, rates, counts of two halves of the rows: choose on one, tell
        of the other), turned (rows whose class an attacker can turn at all), and scores: of clean
        rows, and of static points that the guard's answer gets wrong. `points` is empty for
        thresholds by class or by hand: they cannot be moved together.
    """
    rule = guard.rule
    if not isinstance(rule, Calibrated) or rule.by_class:
        return {"points": [], "turned": 0, "scores": {"clean": [], "static": []}}
    own = rule.calibration.target
    least = 1 / (len(rule.combined) + 1)
    asked = sorted({own, *(rate for rate in RATES if rate >= least)})
    attack = PGD(steps=steps, step_size=0.25, loss="selective", decay=True)
    ledgers, total = [], len(asked) + 1
    for index, rate in enumerate(asked):
        target = of_guard(replace(guard, rule=rule.at(rate)))
        ledgers.append(assess(target, x, y, threat, (attack,), rows=rows, seed=seed).ledger)
        if progress is not None:
            progress(index + 1, total)
    plain = replace(attack, loss="margin")
    bare = assess(_without(guard), x, y, threat, (plain,), rows=rows, seed=seed).ledger
    if progress is not None:
        progress(total, total)
    turned = np.any([ledger.broken for ledger in (bare, *ledgers)], axis=0)
    every = zip([0.0, *asked], [bare, *ledgers], strict=True)
    return {
        "attack": repr(attack),
        "own": own,
        "points": [_point(rate, ledger, turned) for rate, ledger in every],
        "turned": int(turned.sum()),
        "scores": _scores(guard, x, y, static),
    }


def _without(guard: Guard) -> Target:
    """The same answers, with nothing flagged."""
    view = guard.classifier()

    def answer(rows: Tensor) -> tuple[Tensor, Tensor]:
        predicted, _ = guard.answer(rows)
        return predicted, torch.ones_like(predicted, dtype=torch.bool)

    return Target("the guard's classifier", view, Goal(), answer, guard.spec, guard.random)


def _point(rate: float, ledger: Ledger, turned: np.ndarray) -> Json:
    k, n = int((turned & ~ledger.broken).sum()), int(turned.sum())
    return {
        "asked": rate,
        "rates": {name: asdict(found) for name, found in ledger.rates().items()},
        "stopped": asdict(wilson(k, n)) if n else None,
        "halves": [asdict(counts(ledger, slice(start, None, 2))) for start in (0, 1)],
    }


def counts(ledger: Ledger, part: slice = slice(None)) -> Counts:
    """Of the rows in `part`: they were drawn at random, so every other one is a random half."""
    right, broken = ledger.right[part], ledger.broken[part]
    flagged = right & ~broken & ~ledger.accepted_after[part]
    before = ~ledger.accepted_before[part]
    m = int(right.sum())
    return Counts(
        (int((right & broken).sum()), m), (int(flagged.sum()), m), (int(before.sum()), len(before))
    )


def _scores(guard: Guard, x: Tensor, y: Tensor, static: Tensor) -> dict[str, Sequence[float]]:
    """How far over the threshold; rows with numbers that are not finite are flagged by rule, not by
    score, and left out."""
    predicted, clean = guard.suspicion(x)
    moved, over = guard.suspicion(static)
    harmful = (predicted == y) & (moved != y)
    return {
        name: np.round(values[values.isfinite()].double().numpy(), 9).tolist()
        for name, values in (("clean", clean), ("static", over[harmful]))
    }
