"""Put a guard together: fit the detectors, calibrate the one threshold."""

import math
from collections.abc import Iterator, Sequence
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
from buckler.threats.features import FeatureSpec

_UNSET = Thresholds((math.inf,), 0)
_CHUNK = 512  # rows at a time: what ten thousand of them need at once does not fit a cache


def calibrate(
    data: Dataset,
    members: Sequence[nn.Module],
    weights: Sequence[float],
    *,
    views: Sequence[Defense] = (),
    path: Sequence[Defense] = (),
    detectors: Sequence[str] = ("confidence",),
    review_rate: float = 0.02,
    by_class: bool = False,
    table: FeatureSpec | None = None,
) -> Guard:
    """A guard whose detectors are fitted on fit, mapped on select and calibrated on calibrate.

    Args:
        members, weights: members of weight 0 are left out; weights need not sum to 1.
        views: for the detector 'views' alone; each costs every member one more forward.
        review_rate: target share of clean inputs sent to review.
        table: what rows of named columns may hold; needed for the detector 'constraints'.
        by_class: a threshold for each predicted class with 500 calibration rows, so that each
            answer goes to review as often; one threshold for all else.

    Raises: UsageError for transforms that change shape or range, or a rate too small for the
        number of calibration rows (the message says which rate they allow).
    """
    bare = replace(_assemble(data, members, weights, path, views), table=table)
    fitted = _fitted(bare, detectors, data["fit"].x, data["fit"].y)
    smallest = 1 / (len(data["calibrate"]) + 1)
    if review_rate < smallest:
        raise UsageError(
            f"{len(data['calibrate'])} calibration rows allow a review rate of {smallest:.2%} at "
            f"the least. Got {review_rate:.2%}: raise it, or bring more data"
        )
    select, _ = _scores(bare, fitted, data["select"].x)
    held, predicted = _scores(bare, fitted, data["calibrate"].x)
    split = predicted if by_class else None
    rule = Calibrated.fit(select, held, review_rate, split, data.spec.classes)
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
        check_transform(transform, data.spec.snap(rows), data.spec.box, data.spec.is_deep)
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


def _fitted(guard: Guard, names: Sequence[str], x: Tensor, y: Tensor) -> tuple[Detector, ...]:
    """The named detectors, fitted on clean rows x (n, ...) with labels y (n,)."""
    features, labels = _features(guard, x), y.numpy()
    shares = {"weights": guard.weights, "temperatures": guard.temperatures}
    return tuple(
        fit_detector(name, features, labels, **shares, table=guard.table) for name in names
    )


def _features(guard: Guard, x: Tensor) -> Features:
    """What detectors are fitted on: the features of the first view alone, no graph.

    Extra views are for scoring: of tens of thousands of rows they would fill the memory.
    """
    bare = replace(guard, views=())
    parts = list(_in_parts(bare, x))
    embeds = [part.embed for part in parts if part.embed is not None]
    return Features(
        torch.cat([part.views for part in parts], 1),
        torch.cat([part.logits for part in parts], 2),
        torch.cat(embeds, 1) if len(embeds) == len(parts) else None,
        torch.cat([part.log_probs for part in parts], 1),
    )


def _scores(guard: Guard, detectors: Sequence[Detector], x: Tensor) -> tuple[Tensor, Tensor]:
    """The detectors' scores (d, n) and the answers (n,)."""
    found = [
        (
            torch.stack([detector.score(part) for detector in detectors]),
            part.log_probs[0].argmax(1),
        )
        for part in _in_parts(guard, x)
    ]
    scores, answers = zip(*found, strict=True)
    return torch.cat(scores, 1), torch.cat(answers)


def _in_parts(guard: Guard, x: Tensor) -> Iterator[Features]:
    """The features of a few rows at a time, in order, without a graph.

    A random path draws by row number here: calibration must not hang on the operator's secret.
    """
    for rows in torch.arange(len(x)).split(_CHUNK):
        with torch.no_grad():
            features = guard.features(x[rows], rows)
        yield features
