"""Which members answer, and with what weight: chosen on the select split, under attack."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from buckler.harden.validate import RobustValidation, Validation
from buckler.protocols import Classifier, Progress, Threat

_STEPS = 4  # weights are multiples of a quarter


@dataclass(frozen=True)
class Mixture:
    """One candidate: its weights, and what it did on the select split."""

    weights: tuple[float, ...]
    found: Validation


def choose_weights(
    members: Sequence[nn.Module],
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    allowed_loss: float = 0.02,
    progress: Progress | None = None,
) -> tuple[Mixture, list[Mixture]]:
    """The mixture with the highest robust accuracy among those whose clean accuracy is at most
    `allowed_loss` under the best; ties go to fewer members. One member alone may win.

    Each candidate is attacked as one model, through the mean. Returns the choice and all of them.
    """
    grid = [
        tuple(part / _STEPS for part in parts)
        for parts in itertools.product(range(_STEPS + 1), repeat=len(members))
        if sum(parts) == _STEPS
    ]
    validate = RobustValidation(x, y, threat, steps=20)
    tried = []
    for done, weights in enumerate(grid):
        tried.append(Mixture(weights, validate(_mean(members, weights))))
        if progress is not None:
            progress(done + 1, len(grid))
    floor = max(mixture.found.clean for mixture in tried) - allowed_loss
    fit = [mixture for mixture in tried if mixture.found.clean >= floor]
    best = max(fit, key=lambda m: (m.found.robust, m.found.clean, m.weights.count(0.0)))
    return best, tried


def _mean(members: Sequence[nn.Module], weights: Sequence[float]) -> Classifier:
    """The weighted mean probability, in logs."""
    used = [(m, w) for m, w in zip(members, weights, strict=True) if w > 0]

    def model(x: Tensor) -> Tensor:
        parts = [member(x).log_softmax(1) + torch.tensor(w).log() for member, w in used]
        return torch.stack(parts).logsumexp(0)

    return model
