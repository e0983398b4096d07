"""What an attacker climbs: (n,) per row, larger = nearer to a win, written against the goal."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from buckler.errors import UsageError
from buckler.threats import Goal

Loss = Callable[[Tensor, Tensor, Goal], Tensor]
"""(logits (n, k), y (n,), goal) → (n,): larger = nearer to a win."""


def cross_entropy(logits: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """Cross entropy: −log P(answers that lose), or log P(answers that win) where those are fewer.

    For an untargeted goal that is −log p_y, for a targeted one log p_target: the usual pair.
    """
    if goal.kind == "untargeted":
        return F.cross_entropy(logits, y, reduction="none")
    if goal.kind == "targeted":
        target = torch.as_tensor(goal.target, device=y.device).expand(len(y))
        return -F.cross_entropy(logits, target, reduction="none")
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

    For one target it is (z_t − z_y) / (z_1st − (z_3rd + z_4th) / 2), as in APGD-T.

    Raises: UsageError for fewer than 3 classes (4 with a target), where it is not defined.
    """
    need = 4 if goal.kind == "targeted" else 3
    if logits.shape[1] < need:
        raise UsageError(
            f"the DLR loss needs at least {need} classes{' with a target' * (need == 4)}. "
            f"Got {logits.shape[1]}: use loss='margin'"
        )
    top = logits.topk(need, dim=1).values
    if goal.kind != "targeted":
        return goal.objective(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)
    return pair(logits, y, goal) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def pair(logits: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """Target's logit − true class's logit: the one border that attacks on many targets walk to.

    For a goal without a target this is the margin.
    """
    if goal.kind != "targeted":
        return margin(logits, y, goal)
    target = torch.as_tensor(goal.target, device=y.device).expand(len(y))
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None]))[:, 0]


def probability_margin(logits: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """Best winning probability − best losing one (arXiv:2411.15210): bounded, unlike the margin."""
    return goal.objective(logits.softmax(1), y)


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
    "pair": pair,
    "probability": probability_margin,
    "selective": selective,
}
