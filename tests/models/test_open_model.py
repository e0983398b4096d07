"""open_model: by ending; a missing library is named with the command that installs it."""

import sys
from pathlib import Path

import pytest

from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models import RemoteClassifier, open_model

SPEC = InputSpec((1, 4, 4), ("a", "b", "c"))
EXTRAS = [
    ("net.onnx", "onnxruntime", "onnx"),
    ("net.keras", "keras", "keras"),
    ("net.json", "xgboost", "tabular"),
    ("net.ubj", "xgboost", "tabular"),
    ("net.txt", "lightgbm", "tabular"),
]


@pytest.mark.parametrize(("name", "library", "extra"), EXTRAS)
def test_a_missing_library_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, name: str, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf'pip install -e "\.\[{extra}\]"'):
        open_model(name, SPEC)


@pytest.mark.parametrize("name", ["net.pt", "net.pkl", "net.h5", "net", "NET.JOBLIB"])
def test_other_files_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"a model is one of \.onnx .* Got '{name}'"):
        open_model(Path("folder") / name, SPEC)


def test_urls_by_their_path() -> None:
    gateway, v2 = (open_model(u, SPEC) for u in ("http://h:1", "https://h/v2/models/m"))
    assert isinstance(gateway, RemoteClassifier)
    assert isinstance(v2, RemoteClassifier)
    assert gateway.endpoint._headers == {"Content-Type": "application/json"}
    assert (gateway.kind, v2.kind) == ("classify", "v2")
    assert isinstance(open_model("HTTP://h:1", SPEC), RemoteClassifier)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKLER_ENDPOINT_AUTHORIZATION", "Bearer key")
    model = open_model("http://h:1", SPEC)
    assert isinstance(model, RemoteClassifier)
    assert model.endpoint._headers["Authorization"] == "Bearer key"
    assert "key" not in repr(model)
