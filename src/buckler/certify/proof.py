"""Which rows no point of an L∞ ball can change: proofs by bounds of layers, from cheap to tight."""

from collections.abc import Callable
from typing import Final, Literal

import torch
from torch import Tensor, nn

from buckler.certify.interval import Interval, around
from buckler.certify.linear import Crown
from buckler.errors import UsageError
from buckler.threats import Goal, LpBall
from buckler.threats.rows import parts
from buckler.verdict import BoundCertificate

Method = Literal["interval", "crown-ibp", "crown"]
Differences = Callable[[Tensor, Tensor, Tensor], Tensor]
_ROUNDING: Final = 1e-5  # of the logits' size: a margin this thin may be the arithmetic's own
_FOREIGN: Final = 1e-3  # of the same: logits so far outside of their bounds are another function's
_FEW: Final = 16  # rows whose units are pulled back together


def certified_accuracy(
    model: nn.Module, x: Tensor, y: Tensor, threat: LpBall, method: Method = "interval"
) -> Tensor:
    """(n,) bool: rows where no point that the threat allows reaches its goal: a proof, with no
    probability in it.

    For an untargeted goal these rows are right, and stay right. A row may hold and not be
    certified: the bounds are not tight. The sums are rounded to nearest, not outwards; rows whose
    margin is within 1e-5 of their logits' size are not certified.

    Args:
        method: the tightest bounds that are tried, each on the rows that cheaper ones leave:
            interval bounds, then linear ones over them ("crown-ibp"), then linear ones throughout
            ("crown": as long as a forward for each unit of the net).

    Raises: UsageError for another norm than linf, a model in training mode, a layer without bounds,
        or a model that does something else than its layers (a hook that changes values).
    """
    if threat.norm != "linf":
        raise UsageError(f"bounds of layers hold in norm linf. Got {threat.norm}")
    interval = Interval(model)
    if any(part.training for part in model.modules()):
        raise UsageError(
            "the model is in training mode (dropout and batch norm would answer at random): "
            "call model.eval() first"
        )
    held = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    with torch.no_grad():
        for part in parts(x):
            held[part] = _held(model, interval.differences, x[part], y[part], threat.take(part))
        if method != "interval":
            _retry(held, model, Crown(model, "interval"), x, y, threat)
        if method == "crown":
            _retry(held, model, Crown(model), x, y, threat)
    return held


def certificates(
    model: nn.Module, x: Tensor, threat: LpBall, method: Method = "interval"
) -> list[BoundCertificate]:
    """For each row, what `certified_accuracy` proves of the model's own answer."""
    with torch.no_grad():
        y = torch.cat([model(x[part]).argmax(1) for part in parts(x)] or [x.new_zeros(0).long()])
    held = certified_accuracy(model, x, y, threat.with_goal(Goal()), method)
    radii = torch.as_tensor(threat.eps).expand(len(x)).tolist()
    return [
        BoundCertificate(label if ok else None, eps, threat.box, method)
        for label, ok, eps in zip(y.tolist(), held.tolist(), radii, strict=True)
    ]


def _retry(
    held: Tensor, model: nn.Module, crown: Crown, x: Tensor, y: Tensor, threat: LpBall
) -> None:
    left = (~held).nonzero().squeeze(1)
    for rows in left.split(_FEW) if len(left) else ():
        held[rows] = _held(model, crown.differences, x[rows], y[rows], threat.take(rows))


def _held(model: nn.Module, bound: Differences, x: Tensor, y: Tensor, threat: LpBall) -> Tensor:
    """(n,) bool, of few rows, by these bounds. Raises: UsageError if they do not hold."""
    differences = bound(*around(x, threat.eps, threat.box), y)
    logits = model(x)
    size = 1 + logits.abs().amax(1)
    above = logits - logits.gather(1, y[:, None]) - differences
    if bool((above.amax(1) > _FOREIGN * size).any()):
        raise UsageError(
            "the model's logits lie outside of the bounds of its own layers: something "
            "else (a forward hook?) changes them. Bounds are of the layers alone"
        )
    allowed = threat.goal.allowed(y, logits.shape[1])
    worst = differences.masked_fill(~allowed, -torch.inf).amax(1)
    held: Tensor = worst < -_ROUNDING * size
    return held
