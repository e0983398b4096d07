"""Adapters that turn what people have into a Classifier."""

from buckler.models.estimator import EstimatorClassifier
from buckler.models.factory import build_factory, build_module
from buckler.models.module import TorchClassifier, check_classifier

__all__ = [
    "EstimatorClassifier",
    "TorchClassifier",
    "build_factory",
    "build_module",
    "check_classifier",
]
