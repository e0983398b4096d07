"""Auto-PGD's climb in an L1 ball: sparse steps whose sparsity looks after itself, row by row."""

from dataclasses import replace

import torch
from torch import Tensor

from buckler.attacks.engine import ActiveSet, gradient, kept
from buckler.losses import Loss
from buckler.protocols import Classifier
from buckler.threats import Goal, LpBall
from buckler.threats.lp import per_row

_SHRINK = 1.5  # what a step and the number of values it moves are divided by
_SMALLEST = 0.1  # of the largest step


def climb_sparse(
    model: Classifier,
    active: ActiveSet,
    goal: Goal,
    loss: Loss,
    x_adv: Tensor,
    steps: int,
    factor: int = 1,
    *,
    fresh: bool,
) -> Tensor:
    """APGD for L1 (Croce and Hein 2021, arXiv:2103.01208) on the active rows, towards `goal`.

    Args:
        factor: the ball is so many times eps; points outside the threat are not judged.
        fresh: x_adv is noise: steps start with a fifth of the values, else with those it moved.

    Returns: the points of highest loss, of the rows that are still active.
    """
    threat = _ball(active, factor)
    x_adv = threat.project(active.x, x_adv)
    values = active.x[0].numel()
    changed = _changed(x_adv, active.x)
    share = torch.full_like(changed, 0.2) if fresh else changed / values / _SHRINK
    last = torch.full_like(changed, values) if fresh else changed
    grad, logits = gradient(model, x_adv, active.y, goal, loss)
    top = loss(logits, active.y, goal)
    best, best_grad, size = x_adv.clone(), grad.clone(), torch.ones_like(top)  # size: of eps
    check, point = max(1, int(0.04 * steps)), x_adv
    for step in range(1, steps + 2):
        if factor == 1:
            stay = active.judge(point, logits)
            if len(active) < len(stay):
                goal, threat = goal.take(stay), _ball(active, factor)
                rows = (x_adv, grad, top, best, best_grad, size, share, last)
                x_adv, grad, top, best, best_grad, size, share, last = kept(stay, *rows)
        if step > steps or not len(active):
            return best
        move = _sparse_sign(grad, share)
        length = per_row(size, x_adv) * per_row(threat.eps, x_adv)
        point = x_adv = threat.project(active.x, x_adv + length * move)
        grad, logits = gradient(model, x_adv, active.y, goal, loss)
        value = loss(logits, active.y, goal)
        better = (value > top).nonzero()[:, 0]
        best.index_copy_(0, better, x_adv[better])
        best_grad.index_copy_(0, better, grad[better])
        top = torch.maximum(top, value)
        if step % check == 0:
            changed = _changed(best, active.x)
            sparser = changed / last < 0.95
            share, last = changed / values / _SHRINK, changed
            size = torch.where(sparser, 1.0, (size / _SHRINK).clamp_min(_SMALLEST))
            again = sparser.nonzero()[:, 0]
            x_adv = x_adv.index_copy(0, again, best[again])
            grad = grad.index_copy(0, again, best_grad[again])
    return best


def _ball(active: ActiveSet, factor: int) -> LpBall:
    assert isinstance(active.threat, LpBall)
    return replace(active.threat, eps=factor * active.threat.eps)


def _changed(x_adv: Tensor, x: Tensor) -> Tensor:
    """(n,) how many values differ."""
    return (x_adv != x).flatten(1).sum(1).to(x.dtype)


def _sparse_sign(grad: Tensor, share: Tensor) -> Tensor:
    """The signs of the steepest values, `share` (n,) of them, together of L1 norm 1."""
    size = grad.flatten(1).abs()
    at = ((1 - share) * size.shape[1]).clamp(0, size.shape[1] - 1).long()
    least = size.sort(1).values.gather(1, at[:, None])
    signs = torch.where(size >= least, grad.flatten(1).sign(), 0)
    return (signs / (signs.abs().sum(1, keepdim=True) + 1e-10)).reshape(grad.shape)
