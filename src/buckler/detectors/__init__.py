"""Scores of suspicion: fit(...) → a frozen scorer, higher = more suspicious."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from buckler.detectors.confidence import Confidence
from buckler.detectors.disagreement import ViewDisagreement
from buckler.detectors.energy import Energy
from buckler.detectors.forest import IsolationForest
from buckler.detectors.mahalanobis import Mahalanobis
from buckler.detectors.margin import Margin
from buckler.detectors.members import MemberDisagreement
from buckler.detectors.table import Constraints, Density
from buckler.detectors.vim import ViM
from buckler.errors import BundleError, UsageError
from buckler.protocols import Detector, Features
from buckler.threats.features import FeatureSpec

__all__ = [
    "Confidence",
    "Constraints",
    "Density",
    "Energy",
    "IsolationForest",
    "Mahalanobis",
    "Margin",
    "MemberDisagreement",
    "ViM",
    "ViewDisagreement",
]

NAMES = ("confidence", "margin", "energy", "views", "members", "mahalanobis", "vim", "forest")
OF_TABLES = ("constraints", "density")


def fit_detector(
    name: str,
    features: Features,
    y: np.ndarray,
    *,
    weights: Sequence[float] | None = None,
    temperatures: Sequence[float] | None = None,
    table: FeatureSpec | None = None,
) -> Detector:
    """The named detector, fitted on the features of clean rows with labels y (n,).

    Args:
        weights, temperatures: the guard's, one a member; equal weights and 1 if not given.
        table: the spec of rows with named columns, for 'constraints'.
    """
    count = len(features.logits)
    shares = np.full(count, 1 / count) if weights is None else np.asarray(weights, np.float64)
    warm = np.ones(count) if temperatures is None else np.asarray(temperatures, np.float64)
    kinds: dict[str, Callable[[], Detector]] = {
        "confidence": Confidence,
        "margin": Margin,
        "energy": lambda: Energy(shares, warm),
        "views": ViewDisagreement,
        "members": lambda: MemberDisagreement(warm),
        "mahalanobis": lambda: Mahalanobis.fit(features, y),
        "vim": lambda: ViM.fit(features),
        "forest": lambda: IsolationForest.fit(features),
        "constraints": lambda: Constraints.of(_needed(table)),
        "density": lambda: Density.fit(features),
    }
    if name not in kinds:
        raise UsageError(
            f"a detector must be one of {', '.join((*NAMES, *OF_TABLES))}. Got {name!r}"
        )
    return kinds[name]()


def _needed(table: FeatureSpec | None) -> FeatureSpec:
    if table is None:
        raise UsageError("the detector 'constraints' needs the feature spec of a table")
    return table


def load_detector(name: str, state: Mapping[str, np.ndarray]) -> Detector:
    """The detector whose `name` and `state()` these are."""
    kinds: dict[str, Callable[..., Detector]] = {
        "confidence": Confidence,
        "margin": Margin,
        "energy": Energy,
        "views": ViewDisagreement,
        "members": MemberDisagreement,
        "mahalanobis": Mahalanobis,
        "vim": ViM,
        "forest": IsolationForest,
        "constraints": Constraints,
        "density": Density,
    }
    if name not in kinds:
        raise BundleError(f"the bundle names a detector {name!r}; known are {', '.join(kinds)}")
    return kinds[name](**state)
