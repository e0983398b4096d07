"""What an attacker climbs: (n,) per row, larger = nearer to a win, written against the goal."""

from collections.abc import Callable

import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.threats import Goal

Loss = Callable[[Tensor, Tensor, Goal], Tensor]
"""(logits (n, k), y (n,), goal) → (n,): larger = nearer to a win."""


def cross_entropy(logits: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """Cross entropy: −log P(answers that lose), or log P(answers that win) where those are fewer.

    For an untargeted goal that is −log p_y, for a targeted one log p_target: the usual pair.
    """
    allowed = goal.allowed(y, logits.shape[1])
    total = logits.logsumexp(1)
    losing = total - logits.masked_fill(allowed, -torch.inf).logsumexp(1)
    winning = logits.masked_fill(~allowed, -torch.inf).logsumexp(1) - total
    return torch.where((~allowed).sum(1) <= allowed.sum(1), losing, winning)


def margin(logits: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """Best winning logit − best losing logit (Carlini and Wagner 2017): never saturates."""
    return goal.objective(logits, y)


def dlr(logits: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020): the margin, free of the logits' scale.

    Raises: UsageError for fewer than 3 classes, where it is not defined.
    """
    if logits.shape[1] < 3:
        raise UsageError(
            f"the DLR loss needs at least 3 classes. Got {logits.shape[1]}: use loss='margin'"
        )
    top = logits.topk(3, dim=1).values
    return goal.objective(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def selective(logits: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """On a guard's view: first the classifier alone, then, once it is wrong, the detector alone.

    (Selective PGD, Bryniarski et al. 2022, arXiv:2106.15023.) Near the border between two classes
    a guard is unsure and rejects, so that a sum of both goals turns back there. For a goal without
    a reject class this is the margin.
    """
    if goal.kind != "guarded":
        return margin(logits, y, goal)
    classes, reject = logits[:, :-1], logits[:, -1]
    wrong = margin(classes, y, Goal())
    return torch.where(wrong <= 0, wrong, classes.amax(1) - reject)


LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "selective": selective,
}
