"""Adversarial weight perturbation: the loss is taken where the weights are worst nearby."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from buckler.harden.objectives import still


@contextmanager
def perturbed(model: nn.Module, loss: Callable[[], Tensor], size: float) -> Iterator[None]:
    """Inside, each weight matrix stands `size` of its own norm up the gradient of the loss.

    Wu, Xia and Wang 2020 (arXiv:2004.05884): flatter minima, and hardly any robust overfitting.
    Biases and norms stay, and batch statistics do not move.
    """
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    if not size or not weights:
        yield
        return
    with still(model):
        slopes = torch.autograd.grad(loss(), weights, allow_unused=True)
    before = [p.detach().clone() for p in weights]
    with torch.no_grad():
        for p, slope in zip(weights, slopes, strict=True):
            if slope is not None:
                p.add_(slope, alpha=size * float(p.norm() / slope.norm().clamp_min(1e-12)))
    try:
        yield
    finally:
        with torch.no_grad():
            for p, was in zip(weights, before, strict=True):
                p.copy_(was)
