"""Does a gradient of the model's logits reach its input?"""

import torch
from torch import Tensor

from buckler.protocols import Classifier


def differentiable(model: Classifier, x: Tensor) -> bool:
    """Whether gradient attacks are of any use on the model, seen on a few rows of x (n, ...)."""
    z = x[:8].detach().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = model(z)
        if not logits.requires_grad:
            return False
        return torch.autograd.grad(logits.sum(), z, allow_unused=True)[0] is not None
