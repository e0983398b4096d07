"""Scores of suspicion: fit(...) → a frozen scorer, higher = more suspicious."""

from collections.abc import Callable, Mapping

import numpy as np

from buckler.detectors.confidence import Confidence
from buckler.detectors.disagreement import ViewDisagreement
from buckler.detectors.forest import IsolationForest
from buckler.detectors.mahalanobis import Mahalanobis
from buckler.errors import BundleError
from buckler.protocols import Detector, Features

__all__ = ["Confidence", "IsolationForest", "Mahalanobis", "ViewDisagreement"]

NAMES = ("confidence", "views", "mahalanobis", "forest")


def fit_detector(name: str, features: Features, y: np.ndarray) -> Detector:
    """The named detector, fitted on the features of clean rows with labels y (n,)."""
    if name == "confidence":
        return Confidence()
    if name == "views":
        return ViewDisagreement()
    if name == "mahalanobis":
        return Mahalanobis.fit(features, y)
    if name == "forest":
        return IsolationForest.fit(features)
    raise ValueError(f"a detector must be one of {', '.join(NAMES)}. Got {name!r}")


def load_detector(name: str, state: Mapping[str, np.ndarray]) -> Detector:
    """The detector whose `name` and `state()` these are."""
    kinds: dict[str, Callable[..., Detector]] = {
        "confidence": Confidence,
        "views": ViewDisagreement,
        "mahalanobis": Mahalanobis,
        "forest": IsolationForest,
    }
    if name not in kinds:
        raise BundleError(f"the bundle names a detector {name!r}; known are {', '.join(kinds)}")
    return kinds[name](**state)
