"""Probabilities that mean what they say: one temperature a member, then their mean."""

from collections.abc import Sequence

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from buckler.protocols import Classifier


def fit_temperature(model: Classifier, x: Tensor, y: Tensor) -> float:
    """The number to divide the logits by for the highest likelihood of y on held-out rows.

    (Guo et al. 2017, arXiv:1706.04599.) It moves no decision and hides no gradient.
    """
    with torch.no_grad():
        logits = model(x).double()

    def loss(log_t: float) -> float:
        return float(functional.cross_entropy(logits / torch.tensor(log_t).exp(), y))

    # Rows that are all right would send the temperature to zero: a tenth is as far as it goes.
    found = minimize_scalar(loss, bounds=(-2.3, 2.3), method="bounded")
    return float(torch.tensor(found.x).exp())


def mean_log_probs(
    logits: Sequence[Tensor], temperatures: Sequence[float], weights: Sequence[float]
) -> Tensor:
    """Log of the members' weighted mean probability, from each one's logits (..., k).

    In logs throughout: the log of a mean of softmaxes would saturate.
    """
    scaled = torch.stack([z / t for z, t in zip(logits, temperatures, strict=True)])
    shares = torch.tensor(weights, dtype=scaled.dtype, device=scaled.device).log()
    mean: Tensor = (
        scaled.log_softmax(-1) + shares.reshape(-1, *[1] * (scaled.ndim - 1))
    ).logsumexp(0)
    return mean
