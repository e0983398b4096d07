"""A classifier from a file or a URL, by its ending."""

from pathlib import Path

from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models.boosting import LightGBMClassifier, XGBoostClassifier
from buckler.models.endpoint import Endpoint, authorization
from buckler.models.keras import KerasClassifier
from buckler.models.onnx import OnnxClassifier
from buckler.models.remote import Kind, RemoteClassifier, is_v2
from buckler.protocols import Classifier

_KINDS = (
    ".onnx (any framework), .keras (Keras 3), .json or .ubj (XGBoost), .txt (LightGBM), or "
    "http://HOST/v2/models/NAME or http://HOST of a Buckler gateway"
)


def open_model(source: Path | str, spec: InputSpec) -> Classifier:
    """The model at `source` as a classifier of inputs like `spec`.

    Each kind needs its own extra, which is imported when such a file is opened. A Keras net has
    gradients; the others are for black-box attacks. Nothing here unpickles. Where the variable
    BUCKLER_ENDPOINT_AUTHORIZATION is set, an endpoint gets it as the header Authorization.

    Raises: UsageError for an unknown kind, a missing extra, or a model that does not fit `spec`.
    """
    if str(source).lower().startswith(("http://", "https://")):
        kind: Kind = "v2" if is_v2(str(source)) else "classify"
        return RemoteClassifier(str(source), spec, kind, endpoint=Endpoint(headers=authorization()))
    path = Path(source)
    match path.suffix.lower():
        case ".onnx":
            return OnnxClassifier(path, spec)
        case ".keras":
            return KerasClassifier(path, spec)
        case ".json" | ".ubj":
            return XGBoostClassifier(path, spec)
        case ".txt":
            return LightGBMClassifier(path, spec)
    raise UsageError(
        f"a model is one of {_KINDS}. Got {path.name!r}: for a torch net name its factory and "
        "weights, and convert anything else to ONNX"
    )
