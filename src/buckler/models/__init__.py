"""Adapters that turn what people have into a Classifier."""

from buckler.models.alerts import Alerting, at_capacity, base_rate_weights
from buckler.models.boosting import LightGBMClassifier, XGBoostClassifier
from buckler.models.chars import CharGrams
from buckler.models.counted import Counted
from buckler.models.endpoint import Endpoint
from buckler.models.estimator import EstimatorClassifier
from buckler.models.factory import build_factory, build_module
from buckler.models.files import open_model
from buckler.models.keras import KerasClassifier
from buckler.models.module import TorchClassifier, check_classifier
from buckler.models.onnx import OnnxClassifier
from buckler.models.probe import differentiable
from buckler.models.remote import RemoteClassifier
from buckler.models.text import TextClassifier
from buckler.models.trees import split_points
from buckler.models.tuned import tuned

__all__ = [
    "Alerting",
    "CharGrams",
    "Counted",
    "Endpoint",
    "EstimatorClassifier",
    "KerasClassifier",
    "LightGBMClassifier",
    "OnnxClassifier",
    "RemoteClassifier",
    "TextClassifier",
    "TorchClassifier",
    "XGBoostClassifier",
    "at_capacity",
    "base_rate_weights",
    "build_factory",
    "build_module",
    "check_classifier",
    "differentiable",
    "open_model",
    "split_points",
    "tuned",
]
