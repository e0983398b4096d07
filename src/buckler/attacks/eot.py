"""Expectation over transformation: attack the mean of many draws of a random model."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from buckler.attacks.engine import logits_of
from buckler.errors import UsageError
from buckler.protocols import Classifier
from buckler.threats import Goal


@dataclass(frozen=True)
class EOT:
    """A classifier whose logits are the mean of those of several draws of a random one.

    (Athalye et al. 2018, arXiv:1707.07397.) Success on the mean is only a candidate: who counts
    asks the deployed model, with its own draws.

    Args:
        draw: the classifier, once for each draw, its randomness fixed to that draw.
    """

    draw: tuple[Classifier, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return torch.stack([model(x) for model in self.draw]).mean(0)


@dataclass(frozen=True)
class Randomised:
    """EOT over a model that draws afresh each time it is asked: the mean of `draws` answers.

    Loss, best point and gradient of an attack on it are of the same mean, never of one draw.

    Args:
        model: random at every call.
        draws: how many answers are averaged; AutoAttack's `rand` has 20.
        together: ask for all draws in one batch. Only for a model that draws for each row by
            itself (see `draws_each_row`): one that draws once a call would be asked only once.
    """

    model: Classifier = field(repr=False)
    draws: int = 20
    together: bool = False

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UsageError(f"Randomised needs draws >= 1. Got {self.draws}")

    def __call__(self, x: Tensor) -> Tensor:
        if not self.together:
            return EOT((self.model,) * self.draws)(x)
        many = self.model(x.repeat(self.draws, *[1] * (x.ndim - 1)))
        mean: Tensor = many.unflatten(0, (self.draws, len(x))).mean(0)
        return mean


def draws_each_row(model: Classifier, x: Tensor) -> bool:
    """Whether the model answers one row (the first of x) differently within one batch of it."""
    with torch.no_grad():
        logits = model(x[:1].repeat(8, *[1] * (x.ndim - 1)))
    # Kernels may differ in the last bits between places of a batch: that is no draw.
    return bool(((logits - logits[:1]).abs() > 1e-4 * logits.abs().max().clamp_min(1e-3)).any())


def confirm(model: Classifier, x_adv: Tensor, y: Tensor, goal: Goal, draws: int = 20) -> Tensor:
    """(n,) share of `draws` fresh answers of a random model with which the attacker wins.

    A win on the mean that an attack climbed, or on one lucky draw, is no rate.
    """
    if draws < 1:
        raise UsageError(f"confirm needs draws >= 1. Got {draws}")
    wins = torch.zeros(len(x_adv), device=x_adv.device)
    for _ in range(draws):
        wins += goal.objective(logits_of(model, x_adv), y) > 0
    return wins / draws
