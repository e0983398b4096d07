"""Threats whose points have a few parameters: many settings a row are tried from scores alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from buckler.attacks.engine import ActiveSet, logits_of
from buckler.protocols import Classifier

_SLAB = 8  # settings a row between two looks at who has won: never a function of the batch

Transform = Callable[[Tensor, Tensor], Tensor]
"""(x (n, ...), params (n, p)) → x_adv (n, ...)."""


def try_all(
    model: Classifier, active: ActiveSet, transform: Transform, params: Tensor
) -> tuple[Tensor, Tensor]:
    """Judge every setting of every active row; a row leaves with the slab in which it wins.

    Args:
        params: (n, m, p) m settings a row.

    Returns: which of the n rows are still to be won, as indices, and their objectives (·, m).
    """
    left = torch.arange(len(params), device=params.device)
    scores = params.new_empty((len(params), 0))
    for first in range(0, params.shape[1], _SLAB):
        if not len(left):
            break
        slab = params[left, first : first + _SLAB]
        objective, stay = _rate(model, active, transform, slab)
        scores = torch.cat([scores, objective.to(scores.dtype)], 1)[stay]
        left = left[stay]
    return left, scores


def _rate(
    model: Classifier, active: ActiveSet, transform: Transform, params: Tensor
) -> tuple[Tensor, Tensor]:
    """The objective of each setting (n, m), and which rows are still to be won."""
    n, size = params.shape[:2]
    owner = torch.arange(n, device=params.device).repeat_interleave(size)
    points = transform(active.x[owner], params.flatten(0, 1))
    logits = logits_of(model, points)
    goal = active.threat.goal.take(owner)
    objective = goal.objective(logits, active.y[owner]).reshape(n, size)
    best = torch.arange(n, device=params.device) * size + objective.argmax(1)
    return objective, active.judge(points[best], logits[best])


def pull_back(transform: Callable[[Tensor], Tensor], params: Tensor, grad: Tensor) -> Tensor:
    """d loss/d params, from d loss/d x at x = transform(params)."""
    params = params.detach().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(transform(params), params, grad)[0]
