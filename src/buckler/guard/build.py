"""Put a guard together: fit the detectors, calibrate the one threshold."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from buckler.data import Dataset
from buckler.defenses import JPEG, Median, RandomRotation, check_transform
from buckler.detectors import IsolationForest, fit_detector
from buckler.detectors.confidence import Confidence
from buckler.errors import UsageError
from buckler.guard.core import Guard
from buckler.guard.rule import Calibrated, Thresholds
from buckler.guard.temperature import fit_temperature
from buckler.models import TorchClassifier, check_classifier
from buckler.protocols import Defense, Detector, Features

_UNSET = Thresholds((math.inf,), 0)


def calibrate(
    data: Dataset,
    members: Sequence[nn.Module],
    weights: Sequence[float],
    *,
    views: Sequence[Defense] = (Median(2), JPEG(75)),
    path: Sequence[Defense] = (),
    detectors: Sequence[str] = ("confidence", "views", "mahalanobis"),
    review_rate: float = 0.02,
) -> Guard:
    """A guard whose detectors are fitted on fit, mapped on select and calibrated on calibrate.

    Args:
        members, weights: members of weight 0 are left out; weights need not sum to 1.
        review_rate: target share of clean inputs sent to review.

    Raises: UsageError for transforms that change shape or range, or a rate too small for the
        number of calibration rows (the message says which rate they allow).
    """
    bare = _assemble(data, members, weights, path, views)
    fitted = tuple(
        fit_detector(name, _features(bare, data["fit"].x), data["fit"].y.numpy())
        for name in detectors
    )
    smallest = 1 / (len(data["calibrate"]) + 1)
    if review_rate < smallest:
        raise UsageError(
            f"{len(data['calibrate'])} calibration rows allow a review rate of {smallest:.2%} at "
            f"the least. Got {review_rate:.2%}: raise it, or bring more data"
        )
    select, held = (_scores(bare, fitted, data[split].x) for split in ("select", "calibrate"))
    rule = Calibrated.fit(select, held, review_rate)
    return replace(bare, detectors=fitted, rule=rule)


def article(
    data: Dataset,
    members: Sequence[nn.Module],
    *,
    confidence: float = 0.85,
    anomaly: float = 0.3,
) -> Guard:
    """The article's guard, as its baseline: median 2, JPEG 75, random rotation ±5° with crop, the
    plain mean of the members, confidence under 0.85 or anomaly over 0.3 is SUSPICIOUS.

    scikit-learn's IsolationForest.predict gives +1 for normal inputs, so that the article's
    "> 0.3" would flag every one of them; we take a score in [0, 1], higher = worse.
    """
    path = (Median(2), JPEG(75), RandomRotation(5.0))
    bare = _assemble(data, members, [1.0] * len(members), path, ())
    forest = IsolationForest.fit(_features(bare, data["fit"].x))
    rule = Thresholds((-math.log(confidence / (1 - confidence)), anomaly), anomaly_index=1)
    return replace(bare, detectors=(Confidence(), forest), rule=rule)


def _assemble(
    data: Dataset,
    members: Sequence[nn.Module],
    weights: Sequence[float],
    path: Sequence[Defense],
    views: Sequence[Defense],
) -> Guard:
    if len(members) != len(weights) or min(weights, default=0) < 0 or sum(weights) <= 0:
        raise UsageError(
            f"weights must be >= 0, one a member, and not all 0. "
            f"Got {list(weights)} for {len(members)} members"
        )
    rows = data["fit"].x[:8]
    for transform in (*path, *views):
        check_transform(transform, data.spec.snap(rows), data.spec.box)
    kept = [(m, w / sum(weights)) for m, w in zip(members, weights, strict=True) if w > 0]
    kept.sort(key=lambda pair: -pair[1])  # the heaviest member's embedding is the detectors'
    for member, _ in kept:
        check_classifier(member, rows, data.spec.classes)
    frozen = tuple(TorchClassifier(member) for member, _ in kept)
    select = data["select"]
    temperatures = tuple(fit_temperature(member, select.x, select.y) for member in frozen)
    return Guard(
        spec=data.spec,
        members=frozen,
        weights=tuple(w for _, w in kept),
        temperatures=temperatures,
        detectors=(),
        rule=_UNSET,
        path=tuple(path),
        views=tuple(views),
    )


def _features(guard: Guard, x: Tensor) -> Features:
    with torch.no_grad():
        return guard.features(x, torch.arange(len(x)))


def _scores(guard: Guard, detectors: Sequence[Detector], x: Tensor) -> Tensor:
    features = _features(guard, x)
    return torch.stack([detector.score(features) for detector in detectors])
