"""Keras 3 files on Keras's torch backend: a net whose gradients attackers see."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from buckler import draws
from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models.layout import Layout, arrange, layout
from buckler.models.scores import Scores

_PROBES = 16


class KerasClassifier(nn.Module):
    """Logits of a `.keras` file, frozen, in inference mode; differentiable.

    Inputs are turned to the net's own order of axes, told from its input shape. A softmax at the
    end is taken off, since gradients vanish through it; `scores` says what the file itself
    answers. A single unit (binary, sigmoid or linear) becomes two columns: its log-odds are the
    difference. The file is loaded in Keras's safe mode: nothing in it runs.

    Raises: UsageError if Keras runs on another backend already, the file cannot be read, or its
        inputs or outputs do not fit `spec`.
    """

    def __init__(self, path: Path | str, spec: InputSpec) -> None:
        super().__init__()
        keras = _keras()
        net = _load(keras, Path(path))
        if len(net.inputs) != 1 or len(net.outputs) != 1:
            raise UsageError(
                f"{path} must have one input and one output. "
                f"Got {len(net.inputs)} and {len(net.outputs)}"
            )
        self._layout: Layout = layout(tuple(net.inputs[0].shape[1:]), spec.shape, first=False)
        units = tuple(net.outputs[0].shape[1:])
        self._one_unit = units == (1,) and spec.classes == 2
        if units != (spec.classes,) and not self._one_unit:
            raise UsageError(
                f"{path} must answer {spec.classes} columns, one a class. Got the shape {units}"
            )
        low, high = spec.box
        probe = low + (high - low) * draws.uniform(0, torch.arange(_PROBES), 0, spec.shape)
        given = self._answer(net, probe)
        net, activation = _without_activation(keras, net)
        if self._one_unit and activation not in ("sigmoid", "linear"):
            raise UsageError(
                f"the single unit of {path} must end in a sigmoid, or in nothing. "
                "Got another activation: give the net two units"
            )
        self.net = net
        self.eval().requires_grad_(False)
        self.scores: Scores = "probabilities" if activation in _ACTIVATIONS else "logits"
        again = self._answer(self.net, probe)
        if activation in _ACTIVATIONS:
            again = _ACTIVATIONS[activation](again)
        if not torch.allclose(given, again, atol=1e-4):
            raise UsageError(
                f"the {activation} at the end of {path} cannot be taken off: save the net without"
            )

    def forward(self, x: Tensor) -> Tensor:
        logits = self._answer(self.net, x)
        if self._one_unit:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits.to(x)

    def _answer(self, net: Any, x: Tensor) -> Tensor:
        found: Tensor = net(arrange(x, self._layout), training=False)
        return found.to(x)


_ACTIVATIONS = {"softmax": lambda z: torch.softmax(z, 1), "sigmoid": torch.sigmoid}


def _keras() -> Any:
    """Keras on torch. The variable that chooses is set for the import alone."""
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "torch"  # of no effect where Keras was imported before
    try:
        import keras
    except ImportError:
        raise UsageError(
            'Keras files need Keras 3: pip install -e ".[keras]" in Buckler\'s folder'
        ) from None
    finally:
        del os.environ["KERAS_BACKEND"]
        if before is not None:
            os.environ["KERAS_BACKEND"] = before
    if keras.config.backend() != "torch":
        raise UsageError(
            f"Keras runs on {keras.config.backend()} in this process, and Buckler needs torch: "
            'set os.environ["KERAS_BACKEND"] = "torch" before keras is first imported'
        )
    return keras


def _load(keras: Any, path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"the model {path} does not exist: check model.file")
    if not zipfile.is_zipfile(path):
        raise UsageError(f"{path} cannot be read as a Keras 3 file: it is no zip, or was cut off")
    try:
        net = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises anything, and so do its layers
        first = str(error).strip().partition("\n")[0]
        raise UsageError(f"{path} cannot be read as a Keras 3 file: {first}") from None
    if not isinstance(net, keras.Sequential | _functional(keras)):
        raise UsageError(
            f"{path} must hold a Sequential or functional net. Got {type(net).__name__}: build it "
            "with keras.Model(inputs, outputs), or export it as ONNX"
        )
    return net


def _functional(keras: Any) -> type:
    """Keras gives its functional class no public name."""
    given = keras.Input((1,))
    return type(keras.Model(given, keras.layers.Flatten()(given)))


def _without_activation(keras: Any, net: Any) -> tuple[Any, str]:
    """The net without a final softmax or sigmoid, and its name; "linear" where there is none, and
    "" where the end is not a layer that tells.
    """
    last = net.layers[-1]
    if getattr(last, "output", None) is not net.outputs[0]:  # a layer used twice has none
        return net, ""
    if isinstance(last, keras.layers.Softmax) and last.axis in (-1, 1):
        return keras.Model(net.inputs, last.input), "softmax"
    found = getattr(last, "activation", None)
    if found is None:
        return net, ""
    for name in _ACTIVATIONS:
        if found is getattr(keras.activations, name):
            last.activation = keras.activations.linear  # this copy, fresh from the file, is ours
            return net, name
    return net, "linear" if found is keras.activations.linear else ""
