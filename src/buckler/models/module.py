"""A plain nn.Module as a Classifier, checked once."""

import copy
import threading

import torch
from torch import Tensor, nn

from buckler.errors import DataError, UsageError
from buckler.protocols import Classifier


class TorchClassifier(nn.Module):
    """A frozen copy of a module in eval mode: logits, and the embedding under them.

    A module that returns an object with `.logits` is accepted. The caller's module is untouched.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._embed: dict[int, Tensor] = {}  # by thread: several may judge at a time
        linears = [part for part in self.module.modules() if isinstance(part, nn.Linear)]
        if linears:
            linears[-1].register_forward_pre_hook(self._remember)
        self.eval()

    def _remember(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._embed[threading.get_ident()] = inputs[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.with_embedding(x)[0]

    def with_embedding(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (n, k) and the input of the last Linear (n, d), None if there is none."""
        logits = logits_in(self.module(x))
        embed = self._embed.pop(threading.get_ident(), None)
        return logits, None if embed is None or embed.ndim != 2 else embed


def logits_in(output: object) -> Tensor:
    found = getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise UsageError(
            "a model must return a tensor of logits (n, k), or an object with .logits. "
            f"Got {type(output).__name__}"
        )
    return found


def check_classifier(model: Classifier, x: Tensor, classes: int) -> None:
    """Look at the model on a few rows before anything is measured with it.

    Raises: UsageError for a model in training mode, of a wrong output shape, or that returns
        probabilities instead of logits; DataError if there are no rows.
    """
    if not len(x):
        raise DataError("there is no data: at least one row is needed. Got 0")
    if isinstance(model, nn.Module) and any(part.training for part in model.modules()):
        raise UsageError(
            "the model is in training mode (dropout and batch norm would answer at random): "
            "call model.eval() first"
        )
    try:
        with torch.no_grad():
            logits = logits_in(model(x[:64]))
    except (RuntimeError, IndexError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"the model cannot take inputs of shape {tuple(x.shape[1:])}: "
            f"{str(error).splitlines()[0]}"
        ) from None
    if logits.ndim != 2 or len(logits) != len(x[:64]) or logits.shape[1] != classes:
        raise UsageError(
            f"the model must return logits of shape (n, {classes}). "
            f"Got {tuple(logits.shape)} for {len(x[:64])} rows"
        )
    if not bool(torch.isfinite(logits).all()):
        raise UsageError(
            "the model returned logits that are NaN or infinite: no rate over them means anything. "
            "Mend the model first"
        )
    if looks_like_probabilities(logits):
        raise UsageError(
            "the model returns probabilities (rows in [0, 1] that sum to 1); gradients vanish "
            "through them. Return logits: drop the final softmax"
        )


def looks_like_probabilities(logits: Tensor) -> bool:
    sums = (logits.sum(1) - 1).abs()
    return bool((logits >= 0).all() and (logits <= 1).all() and (sums < 1e-4).all())
