"""Which members answer, and with what weight: chosen on the select split, under attack."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from buckler.attacks import PGD
from buckler.guard.temperature import fit_temperature, mean_log_probs
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
    `allowed_loss` under the best; within one standard error of it, the one of fewest members
    (Breiman et al. 1984's rule). One member alone may win.

    Each candidate is attacked as one model, through the mean, and by points made for each member
    alone: the log of a mean hides the gradient of a sure member behind a flat one.

    Returns the choice and all of them.
    """
    grid = [
        tuple(part / _STEPS for part in parts)
        for parts in itertools.product(range(_STEPS + 1), repeat=len(members))
        if sum(parts) == _STEPS
    ]
    validate = RobustValidation(x, y, threat, steps=20)
    temperatures = [fit_temperature(member, x, y) for member in members]
    climb = PGD(steps=20, step_size=0.25, loss="margin", stop=False)
    shown = [climb(member, x, y, threat) for member in members]
    tried = []
    for done, weights in enumerate(grid):
        mean = _mean(members, temperatures, weights)
        tried.append(Mixture(weights, _worst(validate(mean), mean, x, y, shown)))
        if progress is not None:
            progress(done + 1, len(grid))
    floor = max(mixture.found.clean for mixture in tried) - allowed_loss
    fit = [mixture for mixture in tried if mixture.found.clean >= floor]
    top = max(mixture.found.robust for mixture in fit)
    error = math.sqrt(top * (1 - top) / max(len(x), 1))
    near = [mixture for mixture in fit if mixture.found.robust >= top - error]
    best = max(near, key=lambda m: (m.weights.count(0.0), m.found.robust, m.found.clean))
    return best, tried


def _worst(
    found: Validation, mean: Classifier, x: Tensor, y: Tensor, shown: Sequence[Tensor]
) -> Validation:
    """The lower of the robust accuracies: against the mean's own attack, and against `shown`."""
    with torch.no_grad():
        held = torch.stack([mean(points).argmax(1) == y for points in (x, *shown)]).all(0)
    return Validation(found.clean, min(found.robust, float(held.float().mean())))


def _mean(
    members: Sequence[nn.Module], temperatures: Sequence[float], weights: Sequence[float]
) -> Classifier:
    """The answer a guard of these members gives."""
    used = [i for i, weight in enumerate(weights) if weight > 0]
    warm, shares = [temperatures[i] for i in used], [weights[i] for i in used]
    return lambda x: mean_log_probs([members[i](x) for i in used], warm, shares)
