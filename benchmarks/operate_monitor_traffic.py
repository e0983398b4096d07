"""Simulated traffic of the alarms' benchmark.

Clean confidences are Beta(12, 1.2), adversarial ones Beta(2, 3): 2 % of them put 2.7 % of the rows
below the clean 1 % quantile. "shallow" ones lie just within that tail, as those of an attacker who
knows the detector. Every run draws its own calibration set, as every bundle does.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from buckler.ops.rows import Reference, encode, ranks_of
from buckler.stats import conformal_p_ordered, conformal_threshold

Numbers = NDArray[np.float64]
CLASSES: Final = 10
CALIBRATION: Final = 10_000
LONGEST: Final = 20_000


@dataclass(frozen=True)
class Bundle:
    """A calibration set, and the reference that it is."""

    scores: Numbers
    reference: Reference
    threshold: float


def calibrated(random: np.random.Generator) -> Bundle:
    confidence = np.sort(random.beta(12, 1.2, CALIBRATION))
    threshold = conformal_threshold((-confidence).tolist(), 0.01)
    low = float(np.quantile(random.beta(100, CALIBRATION + 1 - 100, 100_000), 0.05))
    reference = Reference(
        tuple(map(str, range(CLASSES))),
        CALIBRATION,
        ranks_of(CALIBRATION),
        (low, threshold.expected, threshold.upper),
        tuple(np.quantile(confidence, np.arange(1, 10) / 10).tolist()),
    )
    return Bundle(-confidence[::-1], reference, threshold.value)


def mixed(random: np.random.Generator, bundle: Bundle, kind: str, share: float) -> Numbers:
    rows = random.beta(12, 1.2, LONGEST)
    odd = random.random(LONGEST) < share
    if kind == "deep":
        rows[odd] = random.beta(2, 3, int(odd.sum()))
    else:
        ranks = random.integers(CALIBRATION - 100, CALIBRATION - 50, int(odd.sum()))
        rows[odd] = -bundle.scores[ranks] - 1e-9
    return rows


def codes(bundle: Bundle, confidence: Numbers, seed: int) -> NDArray[np.uint16]:
    anomaly = 1 - conformal_p_ordered(bundle.scores, -confidence)
    predicted = np.random.default_rng((2, seed)).integers(0, CLASSES, len(confidence))
    return encode(
        bundle.reference,
        anomaly,  # type: ignore[arg-type]
        -confidence > bundle.threshold,  # type: ignore[arg-type]
        predicted,  # type: ignore[arg-type]
        confidence,  # type: ignore[arg-type]
    )
