"""ONNX files through ONNX Runtime: any framework's net, for black-box attacks."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buckler import draws
from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models.layout import Layout, arrange, layout
from buckler.models.scores import Scores, log_probabilities, look_like_probabilities

_FLOATS: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}
_PROBES = 16


class OnnxClassifier:
    """Logits of an ONNX file; gives no gradient. One thread, on the CPU.

    `scores` says what the file itself answers, seen on random rows of the box: from
    "probabilities" the log is taken, clipped at 1e-12; "logits" pass as they are. Estimators
    converted from scikit-learn (a label beside probabilities, with ZipMap or without) work as
    they come. A file with a fixed batch gets padded batches.

    Args:
        output: the name of the output to read, where the file has several of scores.

    Raises: UsageError if the file cannot be run on inputs of `spec`, or answers no (n, k) scores.
    """

    def __init__(self, path: Path | str, spec: InputSpec, *, output: str = "") -> None:
        self._session = _open(Path(path))
        self._classes, self._names = spec.classes, spec.class_names
        given = _only_input(self._session, Path(path))
        self._input, self._dtype = given.name, _FLOATS[given.type]
        fixed = [size if isinstance(size, int) and size > 0 else None for size in given.shape]
        if not fixed:
            raise UsageError(f"the input {given.name!r} of {path} has no shape: export it with one")
        self._batch: int | None = fixed[0]
        self._layout: Layout = layout(tuple(fixed[1:]), spec.shape, first=True)
        self._output = output or _scores_output(self._session, self._classes)
        low, high = spec.box
        probe = low + (high - low) * draws.uniform(0, torch.arange(_PROBES), 0, spec.shape)
        self.scores: Scores = "logits"
        self.scores = "probabilities" if look_like_probabilities(self._raw(probe)) else "logits"

    def __call__(self, x: Tensor) -> Tensor:
        if not len(x):
            return x.new_zeros(0, self._classes)
        values = self._raw(x.detach())
        if self.scores == "probabilities":
            values = log_probabilities(values)
        return torch.from_numpy(values.astype(np.float32)).to(x)

    def _raw(self, x: Tensor) -> np.ndarray:
        """(n, k): what the file answers, in batches of the size it takes."""
        rows = arrange(x, self._layout).cpu().numpy().astype(self._dtype)
        size = self._batch or len(rows)
        parts = [self._run(rows[start : start + size]) for start in range(0, len(rows), size)]
        return np.concatenate(parts)

    def _run(self, rows: np.ndarray) -> np.ndarray:
        short = (self._batch or len(rows)) - len(rows)
        padded = np.concatenate([rows, np.repeat(rows[:1], short, axis=0)]) if short else rows
        try:
            answer = self._session.run([self._output], {self._input: padded})[0]
        except Exception as error:  # ONNX Runtime's own tree, which hangs under no other
            raise UsageError(
                f"the ONNX model cannot take inputs of shape {rows.shape[1:]}: {_first_line(error)}"
            ) from None
        if isinstance(answer, list):
            answer = _columns(answer, self._names)
        found = np.asarray(answer)
        if found.shape != (len(padded), self._classes):
            raise UsageError(
                f"the ONNX model must answer scores of shape (n, {self._classes}) from "
                f"{self._output!r}. Got {found.shape} for {len(padded)} rows: export it with one "
                "column a class, or name another output"
            )
        return found[: len(rows)]


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(
            'ONNX files need ONNX Runtime: pip install -e ".[onnx]" in Buckler\'s folder'
        ) from None
    if not path.is_file():
        raise UsageError(f"the model {path} does not exist: check model.file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors come as exceptions
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UsageError(f"{path} cannot be read as ONNX: {_first_line(error)}") from None


def _only_input(session: Any, path: Path) -> Any:
    inputs = session.get_inputs()
    kinds = ", ".join(f"{each.name} {each.type}" for each in inputs)
    if len(inputs) != 1 or inputs[0].type not in _FLOATS:
        raise UsageError(
            f"{path} must take one input of floats. Got {kinds}: convert it so that all "
            "features stand in one tensor"
        )
    return inputs[0]


def _scores_output(session: Any, classes: int) -> str:
    """The one output that can hold scores (n, k); labels beside it are left alone."""
    outputs = session.get_outputs()
    found = [
        each.name
        for each in outputs
        if each.type.startswith("seq(map(")
        or (each.type in _FLOATS and (len(outputs) == 1 or _wide(each.shape) in (classes, None)))
    ]
    found = found or [each.name for each in outputs if each.type in _FLOATS]
    if len(found) != 1:
        kinds = ", ".join(f"{each.name} {each.type} {each.shape}" for each in outputs)
        raise UsageError(
            f"the ONNX model must have one output of scores (n, {classes}). Got {kinds}: name it, "
            "OnnxClassifier(..., output=...), or export the model with scores"
        )
    return str(found[0])


def _wide(shape: list[Any]) -> int | None:
    """Columns of an output (n, k), None if any number; 0 for another rank."""
    if len(shape) != 2:
        return 0
    return shape[1] if isinstance(shape[1], int) else None


def _columns(rows: list[dict[Any, float]], names: tuple[str, ...]) -> np.ndarray:
    """ZipMap's dictionaries as columns in the order of the labels."""
    keys = set(rows[0])
    order: list[Any] = list(range(len(keys)))
    if keys != set(order):
        order = list(names)
    if keys != set(order):
        raise UsageError(
            f"the ONNX model's labels must be 0..{len(names) - 1} or the class names "
            f"{list(names)[:10]}. Got {sorted(keys, key=str)[:10]}"
        )
    return np.array([[row[key] for key in order] for row in rows], dtype=np.float32)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
