"""A binary classifier as a fraud team runs it: the highest scores become alerts, as many as fit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.protocols import Classifier


@dataclass(frozen=True)
class Alerting:
    """Answers 1 (an alert) where the model's log-odds of class 1 lie above `threshold`."""

    model: Classifier
    threshold: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        over = (self.score(x) - self.threshold) / 2
        return torch.stack([-over, over], 1)

    def score(self, x: Tensor) -> Tensor:
        """(n,) log-odds of class 1."""
        logits = self.model(x)
        if logits.ndim != 2 or logits.shape[1] != 2:
            raise UsageError(
                f"alerts need a classifier of two classes, (n, 2). Got {tuple(logits.shape)}"
            )
        return logits[:, 1] - logits[:, 0]


def threshold_at(scores: Tensor, share: float, weights: Tensor | None = None) -> float:
    """The lowest score above which lies at most `share` of all rows, by weight.

    Scores that are equal are alerts together or not at all.

    Args:
        scores: (n,) of the rows that count: good customers for a false-positive rate, every
            application for an alert capacity.
        weights: (n,) >= 0, how many rows each stands for.
    """
    if not len(scores) or not 0 <= share < 1:
        raise UsageError(
            f"a threshold needs rows and a share in [0, 1). Got {len(scores)} rows and {share}"
        )
    weights = torch.ones(len(scores)) if weights is None else weights
    levels, at = scores.double().unique(return_inverse=True)
    mass = torch.zeros(len(levels), dtype=torch.float64).index_add_(0, at, weights.double())
    above = mass.sum() - mass.cumsum(0)
    fits = above <= share * mass.sum() * (1 + 1e-12)
    return float(levels[int(fits.nonzero()[0, 0])])


def at_capacity(
    model: Classifier, x: Tensor, share: float, weights: Tensor | None = None
) -> Alerting:
    """The model with as many alerts as fit: refit after each hardening, on rows that trained
    nothing."""
    return Alerting(model, threshold_at(Alerting(model).score(x), share, weights))


def base_rate_weights(y: Tensor, rate: float) -> Tensor:
    """(n,) what each row of a sample stands for, where `rate` of all rows are of class 1.

    Raises: UsageError for a rate outside (0, 1), or a sample of one class.
    """
    positive = float((y == 1).double().mean())
    if not 0 < rate < 1 or not 0 < positive < 1:
        raise UsageError(
            "weights need a base rate in (0, 1) and rows of both classes. "
            f"Got {rate} and {positive:.3g} of class 1"
        )
    return torch.where(y == 1, rate / positive, (1 - rate) / (1 - positive))
