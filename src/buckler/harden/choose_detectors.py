"""Which scores a guard looks at: chosen on the select split, under an attacker who knows them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from buckler import draws
from buckler.attacks import PGD
from buckler.attacks.suites import Suite
from buckler.data import Dataset, Split
from buckler.defenses import defense
from buckler.guard import Guard, calibrate
from buckler.inputs import InputSpec
from buckler.protocols import Defense, Progress, Threat
from buckler.threats import Goal

_SUITE: Suite = (
    PGD(steps=40, step_size=0.25, loss="selective", decay=True),
    PGD(steps=40, step_size=0.25, loss="margin", decay=True),
)


@dataclass(frozen=True)
class Scores:
    """One candidate: the detectors' names, the views' that they compare, and what it let past:
    accepted and wrong under attack / rows right at first."""

    detectors: tuple[str, ...]
    views: tuple[str, ...] = ()
    accepted_wrong: float = math.nan


def usual_scores(spec: InputSpec) -> tuple[Scores, ...]:
    """What is worth a try: confidence alone, and what has paid beside it or in its place."""
    jpeg = ("jpeg75",) if spec.box == (0.0, 1.0) and not spec.is_deep else ()
    views = (Scores(("confidence", "views"), ("median3", *jpeg)),)
    return (
        Scores(("confidence",)),
        Scores(("margin",)),
        Scores(("confidence", "energy")),
        Scores(("confidence", "mahalanobis")),
        *(views if spec.is_image else ()),
    )


def choose_detectors(
    data: Dataset,
    members: Sequence[nn.Module],
    weights: Sequence[float],
    candidates: Sequence[Scores],
    threat: Threat,
    *,
    path: Sequence[Defense] = (),
    review_rate: float = 0.02,
    rows: int = 500,
    suite: Suite = _SUITE,
    progress: Progress | None = None,
) -> tuple[Scores, list[Scores]]:
    """The candidate that lets the fewest wrong answers past at this review rate; within one
    standard error of it, the one of fewest views and detectors.

    Each is calibrated on one half of the select split, and attacked through its own view on at most
    `rows` of the other: the calibrate split is not looked at.

    Args:
        path: transforms before the members.

    Returns the choice and all of them.
    """
    halves, at = _halves(data, rows)
    x, y = data["select"].x[at], data["select"].y[at]
    rate = max(review_rate, 1 / (len(halves["calibrate"]) + 1))  # the least that so few rows allow
    tried, n = [], len(x)
    for done, candidate in enumerate(candidates):
        guard = calibrate(
            halves,
            members,
            weights,
            views=[defense(name) for name in candidate.views],
            path=path,
            detectors=candidate.detectors,
            review_rate=rate,
        )
        share = _past(guard, x, y, threat.take(at), at, suite)
        tried.append(Scores(candidate.detectors, candidate.views, share))
        if progress is not None:
            progress(done + 1, len(candidates))
    least = min(tried, key=lambda c: c.accepted_wrong).accepted_wrong
    error = math.sqrt(least * (1 - least) / max(n, 1))
    near = [c for c in tried if c.accepted_wrong <= least + error]
    return min(near, key=lambda c: (len(c.views), len(c.detectors), c.accepted_wrong)), tried


def _halves(data: Dataset, rows: int) -> tuple[Dataset, torch.Tensor]:
    """Data whose calibrate split is half of select, and ids of rows of the other half."""
    select = data["select"]
    order = draws.permutation(draws.derive(0, "halves"), 0, len(select))
    kept, other = order[: len(order) // 2], order[len(order) // 2 :][:rows].sort().values
    part = Split(select.x[kept], select.y[kept], tuple(select.hashes[i] for i in kept.tolist()))
    return replace(data, splits={**data.splits, "select": part, "calibrate": part}), other


def _past(
    guard: Guard,
    x: torch.Tensor,
    y: torch.Tensor,
    threat: Threat,
    rows: torch.Tensor,
    suite: Suite,
) -> float:
    """Accepted and wrong / right at first, the worst of the suite row by row."""
    right = guard.answer(x)[0] == y
    past = torch.zeros_like(right)
    for attack in suite:
        goal = threat.with_goal(Goal("guarded"))
        predicted, accepted = guard.answer(attack(guard.attack_view(), x, y, goal, rows=rows))
        past |= right & accepted & (predicted != y)
    return float(past.sum()) / max(int(right.sum()), 1)
