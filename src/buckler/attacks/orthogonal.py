"""Orthogonal PGD: fool a classifier without waking its detector."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.attacks.engine import ActiveSet, checked, logits_of
from buckler.errors import UsageError
from buckler.losses import LOSSES
from buckler.protocols import Classifier, Threat
from buckler.threats import Goal, LpBall
from buckler.threats.lp import per_row
from buckler.threats.rows import parts

_PARALLEL = 1e-3  # share of a gradient that must be orthogonal to the other one to be followed


@dataclass(frozen=True)
class OrthogonalPGD:
    """Each step serves classifier or detector, along the part that leaves the other as it is.

    Bryniarski et al. 2022 (arXiv:2106.15023), on a guard's view: k logits and "rejected". While the
    classifier is right, the step follows its gradient without its part along the detector's; once
    it is wrong, the detector's without its part along the classifier's. Both come from one forward
    pass. Deviations: where the two gradients are parallel the step is selective PGD's, for nothing
    orthogonal is left; in an L∞ ball the step is the steepest of those that are orthogonal, which
    the sign of the orthogonal part would not be; steps shrink linearly to a tenth where `decay` is
    set; every iterate is judged and won rows leave.

    It walks round a detector that looks elsewhere than the classifier. One that rejects the unsure
    lies across every way to another class and must be crossed: there selective PGD
    (PGD(loss="selective")) wins more. Run both.

    Args:
        steps: gradient steps a restart.
        step_size: fraction of eps; an orthogonal step gains little, so that long ones pay.
        restarts: the first starts at x, others at random.
        loss: of the classifier's part, a name in buckler.losses.LOSSES.
        decay: whether steps shrink.
    """

    steps: int = 100
    step_size: float = 1.0
    restarts: int = 1
    loss: str = "margin"
    decay: bool = True
    name: str = "OrthogonalPGD"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or not self.step_size > 0:
            raise UsageError(
                "OrthogonalPGD needs steps >= 1, restarts >= 1 and step_size > 0 (a fraction of "
                f"eps). Got steps={self.steps}, restarts={self.restarts}, "
                f"step_size={self.step_size}"
            )
        if self.loss not in LOSSES:
            raise UsageError(f"loss must be one of {', '.join(LOSSES)}. Got {self.loss!r}")

    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> Tensor:
        if not isinstance(threat, LpBall) or threat.norm == "l1":
            raise UsageError(f"OrthogonalPGD needs an L-infinity or L2 ball. Got {threat}")
        if threat.goal.kind not in ("guarded", "targeted"):
            raise UsageError(
                "OrthogonalPGD needs the goal 'guarded' (or 'targeted', at one of a guard's "
                f'classes), for the last logit is "rejected". Got {threat.goal.kind!r}'
            )
        active = ActiveSet(x, y, threat, rows)
        for restart in range(self.restarts):
            if restart:
                active.reopen()
            if not len(active):
                break
            start = active.x
            if restart:
                start = active.threat.random_point(active.x, seed, active.rows, restart)
            self._climb(model, active, start)
        return active.best

    def _climb(self, model: Classifier, active: ActiveSet, x_adv: Tensor) -> None:
        for step in range(self.steps):
            goal = _on_classes(active.threat.goal)
            wrong, passed, logits = self._gradients(model, x_adv, active.y, goal)
            fooled = goal.objective(logits[:, :-1], active.y) > 0
            stay = active.judge(x_adv, logits)
            if not len(active):
                return
            x_adv, wrong, passed, fooled = x_adv[stay], wrong[stay], passed[stay], fooled[stay]
            turn = per_row(fooled, wrong).bool()
            threat = active.threat
            assert isinstance(threat, LpBall)
            grad, other = torch.where(turn, passed, wrong), torch.where(turn, wrong, passed)
            move = per_row(threat.eps, x_adv) * across(grad, other, threat)
            size = self.step_size * (1 - 0.9 * step / self.steps if self.decay else 1)
            x_adv = threat.project(active.x, x_adv + size * move)
        active.judge(x_adv, logits_of(model, x_adv))

    def _gradients(
        self, model: Classifier, x: Tensor, y: Tensor, goal: Goal
    ) -> tuple[Tensor, Tensor, Tensor]:
        """d (classifier's loss)/dx, d (best class − "rejected")/dx, and the logits (n, k + 1)."""
        loss, found = LOSSES[self.loss], []
        for part in parts(x):
            z = x[part].detach().requires_grad_(True)
            with torch.enable_grad():
                logits = checked(model(z), z)
                if not logits.requires_grad or logits.shape[1] < 3:
                    raise UsageError(
                        "OrthogonalPGD needs a differentiable view of at least 2 classes and "
                        f'"rejected". Got {logits.shape[1]} logits, '
                        f"with{'' if logits.requires_grad else 'out'} gradients"
                    )
                classes, reject = logits[:, :-1], logits[:, -1]
                value = loss(classes, y[part], goal.take(part))
                wrong = torch.autograd.grad(value.sum(), z, retain_graph=True)[0]
                passed = torch.autograd.grad((classes.amax(1) - reject).sum(), z)[0]
            found.append((wrong, passed, logits.detach()))
        joined = tuple(torch.cat(each) for each in zip(*found, strict=True))
        if not bool(torch.isfinite(joined[0] + joined[1]).all()):
            raise UsageError(
                "the model's gradient is NaN or infinite: an attack that steps along it tells "
                "nothing. Mend the model, or use a black-box attack (Square, OnePixel)"
            )
        return joined[0], joined[1], joined[2]


def across(grad: Tensor, other: Tensor, threat: LpBall) -> Tensor:
    """Among the moves of norm 1 orthogonal to `other`, the one along which `grad` rises most.

    Where it hardly rises, for the two are parallel, the steepest move of all.
    """
    along, against = (LpBall("l2", 1.0).steepest(each) for each in (grad, other))
    if threat.norm == "linf":
        move = _signs_across(along.flatten(1), against.flatten(1)).reshape(grad.shape)
    else:
        share = per_row((along * against).flatten(1).sum(1), along)
        move = threat.steepest(along - share * against)
    steepest = threat.steepest(along)
    gain, most = ((along * each).flatten(1).sum(1) for each in (move, steepest))
    return torch.where(per_row(gain < _PARALLEL * most, grad).bool(), steepest, move)


def _signs_across(grad: Tensor, other: Tensor) -> Tensor:
    """max grad · d for |d| ≤ 1 and other · d = 0, both (n, d), exactly.

    d = sign(grad − λ · other) with λ the median of grad / other, weighted by |other|; only the
    value at the median itself lies between −1 and 1.
    """
    weight = other.abs()
    order = (grad / other).argsort(1)
    sorted_weight = weight.gather(1, order)
    up_to = sorted_weight.cumsum(1)
    balance = 2 * up_to - sorted_weight - up_to[:, -1:]  # weight below − weight above
    sides = (balance / sorted_weight).clamp(-1, 1)
    move = torch.zeros_like(grad).scatter(1, order, sides) * other.sign()
    return torch.where(weight > 0, move, grad.sign())


def _on_classes(goal: Goal) -> Goal:
    """The goal as the classifier alone sees it, without "rejected"."""
    return Goal() if goal.kind == "guarded" else goal
