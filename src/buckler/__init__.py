"""Buckler: make an existing classifier hard to fool, show by how much, and keep it so.

Public names are resolved when first used, so that a gateway never loads attack code.
"""

from importlib import import_module

_HOME = {
    "APGD": "attacks",
    "EOT": "attacks",
    "FGSM": "attacks",
    "PGD": "attacks",
    "OnePixel": "attacks",
    "Square": "attacks",
    "load": "data",
    "JPEG": "defenses",
    "GaussianNoise": "defenses",
    "Median": "defenses",
    "RandomRotation": "defenses",
    "BucklerError": "errors",
    "BundleError": "errors",
    "DataError": "errors",
    "PolicyError": "errors",
    "UsageError": "errors",
    "Guard": "guard",
    "article": "guard",
    "calibrate": "guard",
    "load_bundle": "guard",
    "write_bundle": "guard",
    "InputSpec": "inputs",
    "Counted": "models",
    "Endpoint": "models",
    "EstimatorClassifier": "models",
    "KerasClassifier": "models",
    "LightGBMClassifier": "models",
    "OnnxClassifier": "models",
    "RemoteClassifier": "models",
    "TorchClassifier": "models",
    "XGBoostClassifier": "models",
    "open_model": "models",
    "tuned": "models",
    "Goal": "threats",
    "LpBall": "threats",
    "PixelBudget": "threats",
    "Certificate": "verdict",
    "Verdict": "verdict",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'buckler' has no attribute {name!r}")
    return getattr(import_module(f"buckler.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
