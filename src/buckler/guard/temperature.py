"""Probabilities that mean what they say: one temperature a member."""

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
