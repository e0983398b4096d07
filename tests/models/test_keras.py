"""KerasClassifier: the file's own answers, logits under them, and gradients."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models import KerasClassifier, TorchClassifier, check_classifier, differentiable
from buckler.models.keras import _keras

if importlib.util.find_spec("keras") is None:  # importing it would choose its backend
    pytest.skip('needs keras: pip install -e ".[keras]"', allow_module_level=True)

keras = _keras()
layers = keras.layers
SPEC = InputSpec((1, 8, 8), ("a", "b", "c"))
TWO = InputSpec((1, 8, 8), ("a", "b"))
X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def save(path: Path, *parts, shape=(8, 8, 1)):
    """A Sequential net at `path`, and the net itself."""
    net = keras.Sequential([keras.Input(shape), *parts])
    net.save(path)
    return net


def cnn(*end):
    return (
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dropout(0.5),
        *end,
    )


def seen(net, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net(x.permute(0, 2, 3, 1), training=False)


ENDS = [
    ((layers.Dense(3),), "logits"),
    ((layers.Dense(3, activation="softmax"),), "probabilities"),
    ((layers.Dense(3), layers.Softmax()), "probabilities"),
    ((layers.Dense(3), layers.Activation("softmax")), "probabilities"),
]


@pytest.mark.parametrize(("end", "scores"), ENDS)
def test_the_softmax_is_taken_off(tmp_path: Path, end, scores: str) -> None:
    path = tmp_path / "net.keras"
    given = seen(save(path, *(type(part).from_config(part.get_config()) for part in cnn(*end))), X)
    model = KerasClassifier(path, SPEC)
    assert model.scores == scores
    logits = model(X)
    found = logits.softmax(1) if scores == "probabilities" else logits
    torch.testing.assert_close(found.detach(), given)
    check_classifier(model, X, 3)
    assert differentiable(model, X)


def test_the_gradient_is_that_of_the_logits(tmp_path: Path) -> None:
    """Of a linear net with a sure softmax: d z_j/d x is the j-th column, where the softmax's own
    gradient is nothing."""
    path = tmp_path / "net.keras"
    net = save(path, layers.Flatten(), layers.Dense(3, activation="softmax", use_bias=False))
    weight = 100 * torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    net.set_weights([weight.numpy()])
    net.save(path)
    x = X.clone().requires_grad_(True)
    grad = torch.autograd.grad(KerasClassifier(path, SPEC)(x)[:, 1].sum(), x)[0]
    torch.testing.assert_close(grad.flatten(1), weight[:, 1].expand(5, 64))
    own = torch.autograd.grad(net(x.permute(0, 2, 3, 1))[:, 1].sum(), x)[0]
    assert float(own.abs().max()) < 1e-3 * float(grad.abs().max())


def test_it_goes_through_torch_classifier_and_follows_the_dtype(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    save(path, *cnn(layers.Dense(3, activation="softmax")))
    model = KerasClassifier(path, SPEC)
    copy = TorchClassifier(model)
    assert not any(part.training for part in copy.module.modules())
    torch.testing.assert_close(copy(X), model(X))
    x = X.double().requires_grad_(True)
    logits = copy(x)
    assert logits.dtype == torch.float64
    assert bool((torch.autograd.grad(logits.sum(), x)[0] != 0).any())
    assert model(X[:0]).shape == (0, 3)


@pytest.mark.parametrize("end", [layers.Dense(1, activation="sigmoid"), layers.Dense(1)])
def test_one_unit_becomes_two_columns(tmp_path: Path, end) -> None:
    path = tmp_path / "net.keras"
    net = save(path, *cnn(type(end).from_config(end.get_config())))
    given = seen(net, X)
    model = KerasClassifier(path, TWO)
    second = model(X).softmax(1)[:, 1].detach()
    want = given[:, 0] if model.scores == "probabilities" else torch.sigmoid(given[:, 0])
    torch.testing.assert_close(second, want)


@pytest.mark.parametrize("shape", [(8, 8), (64,)])
def test_grey_images_without_a_channel(tmp_path: Path, shape) -> None:
    path = tmp_path / "net.keras"
    net = save(path, layers.Flatten(), layers.Dense(3), shape=shape)
    given = net(X.reshape(5, *shape)).detach()
    torch.testing.assert_close(KerasClassifier(path, SPEC)(X), given)


def test_a_softmax_that_cannot_be_taken_off_is_refused_before_attacks(tmp_path: Path) -> None:
    head = keras.Sequential([keras.Input((64,)), layers.Dense(3, activation="softmax")])
    save(tmp_path / "nested.keras", layers.Flatten(), head)
    model = KerasClassifier(tmp_path / "nested.keras", SPEC)
    with pytest.raises(UsageError, match="returns probabilities"):
        check_classifier(model, X, 3)
    given = keras.Input((8, 8, 1))
    twice = layers.Dense(64, activation="softmax")
    flat = layers.Flatten()(given)
    keras.Model(given, twice(twice(flat))).save(tmp_path / "twice.keras")
    model = KerasClassifier(
        tmp_path / "twice.keras", InputSpec((1, 8, 8), tuple(map(str, range(64))))
    )
    with pytest.raises(UsageError, match="returns probabilities"):
        check_classifier(model, X, 64)


COLOUR = InputSpec((3, 8, 8), ("a", "b", "c"))
REFUSED = [
    ((layers.Flatten(), layers.Dense(2)), (8, 8, 1), SPEC, r"must answer 3 columns.*Got .*\(2,\)"),
    ((layers.Flatten(), layers.Dense(3)), (9, 9, 1), SPEC, r"takes inputs of shape \(9, 9, 1\)"),
    ((layers.Dense(3),), (192,), COLOUR, r"channels first or last: save the model with an Input"),
    (
        (layers.Flatten(), layers.Dense(1, activation="tanh")),
        (8, 8, 1),
        TWO,
        r"must end in a sigmoid, or in nothing",
    ),
]


@pytest.mark.parametrize(("parts", "shape", "spec", "sentence"), REFUSED)
def test_refusals(tmp_path: Path, parts, shape, spec: InputSpec, sentence: str) -> None:
    path = tmp_path / "net.keras"
    save(path, *(type(part).from_config(part.get_config()) for part in parts), shape=shape)
    with pytest.raises(UsageError, match=sentence):
        KerasClassifier(path, spec)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        KerasClassifier(tmp_path / "none.keras", SPEC)
    (tmp_path / "bad.keras").write_text("no zip")
    with pytest.raises(UsageError, match="cannot be read as a Keras 3 file: it is no zip"):
        KerasClassifier(tmp_path / "bad.keras", SPEC)


def test_a_file_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    save(tmp_path / "net.keras", layers.Flatten(), layers.Lambda(lambda x: x), layers.Dense(3))
    with pytest.raises(UsageError, match=r"cannot be read as a Keras 3 file.*unsafe"):
        KerasClassifier(tmp_path / "net.keras", SPEC)


def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(UsageError, match=r'runs on jax .* "torch" before keras is first imported'):
        _keras()


def test_the_environment_is_left_as_it_was() -> None:
    code = (
        "import os; from buckler.models.keras import _keras; k = _keras(); "
        "print(k.config.backend(), os.environ.get('KERAS_BACKEND'))"
    )
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.split() == ["torch", "tensorflow"], done.stderr
