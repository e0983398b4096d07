"""Buckler: make an existing classifier hard to fool, show by how much, and keep it so.

Public names are resolved when first used, so that a gateway never loads attack code.
"""

from importlib import import_module

_HOME = {
    "APGD": "attacks",
    "BPDA": "attacks",
    "CAPGD": "attacks",
    "CW": "attacks",
    "ColourShift": "attacks",
    "Corruptions": "attacks",
    "DDN": "attacks",
    "DeepFool": "attacks",
    "EOT": "attacks",
    "Enumerate": "attacks",
    "Estimated": "attacks",
    "Estimating": "attacks",
    "FAB": "attacks",
    "FGSM": "attacks",
    "FMN": "attacks",
    "HopSkipJump": "attacks",
    "MOEVA": "attacks",
    "OnePixel": "attacks",
    "OrthogonalPGD": "attacks",
    "PGD": "attacks",
    "PatchAttack": "attacks",
    "PriceSearch": "attacks",
    "Randomised": "attacks",
    "SigmaZero": "attacks",
    "SimBA": "attacks",
    "Square": "attacks",
    "StickerAttack": "attacks",
    "TextSearch": "attacks",
    "Strong": "attacks",
    "Study": "attacks",
    "Transfer": "attacks",
    "Under": "attacks",
    "WorstOfK": "attacks",
    "confirm": "attacks",
    "draws_each_row": "attacks",
    "sticker_success": "attacks",
    "train_surrogate": "attacks",
    "Answer": "client",
    "AsyncClient": "client",
    "Client": "client",
    "GatewayError": "client",
    "load": "data",
    "GaussianNoise": "defenses",
    "JPEG": "defenses",
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
    "split_points": "models",
    "tuned": "models",
    "Colour": "threats",
    "Corruption": "threats",
    "FeatureSpec": "threats",
    "FeatureThreat": "threats",
    "Goal": "threats",
    "LpBall": "threats",
    "Patch": "threats",
    "PixelBudget": "threats",
    "Spatial": "threats",
    "Sticker": "threats",
    "TextEdits": "threats",
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
