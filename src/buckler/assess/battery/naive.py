"""The gradient-norm test, a baseline that errs in both directions."""

import torch
from torch import Tensor

from buckler.assess.battery.check import Naive
from buckler.protocols import Classifier

_LIMIT = 0.01


def naive_test(view: Classifier, x: Tensor, y: Tensor, batch: int = 32) -> Naive | None:
    """ "Gradients under 0.01 in the mean are masked": the L2 norm a row, of the mean cross entropy
    of a batch. None where no gradient arrives.

    It falls with the batch, with the logits' scale and with confidence, which honest nets have; and
    shattered or random gradients are large. Nothing in Buckler goes by it.
    """
    norms = []
    for rows, labels in zip(x.split(batch), y.split(batch), strict=True):
        z = rows.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            logits = view(z)
            if not logits.requires_grad:
                return None
            loss = torch.nn.functional.cross_entropy(logits, labels)
            grad = torch.autograd.grad(loss, z, allow_unused=True)[0]
        if grad is None:
            return None
        norms.append(grad.flatten(1).norm(dim=1))
    return Naive(float(torch.cat(norms).mean()), _LIMIT, batch)
