"""One step along the sign of the gradient."""

from dataclasses import dataclass

from torch import Tensor

from buckler import draws
from buckler.attacks.engine import ActiveSet, gradient, logits_of
from buckler.attacks.pgd import ascend
from buckler.errors import UsageError
from buckler.losses import LOSSES
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall
from buckler.threats.lp import per_row


@dataclass(frozen=True)
class FGSM:
    """Fast gradient sign method (Goodfellow et al. 2015); targeted if the threat's goal is.

    Under an L2 ball the step is the gradient's direction at full length. With `start` "ball" it is
    RS-FGSM (Wong et al. 2020, arXiv:2001.03994), with "noise" N-FGSM (de Jorge et al. 2022,
    arXiv:2202.01181); N-FGSM's point, which may leave the ball, is projected into it.

    Args:
        start: "x", "ball" (uniform in the ball) or "noise" (twice as far out, L∞ only).
        step_size: fraction of eps; the papers take 1.25 from "ball" and 1 from "noise".
    """

    loss: str = "ce"
    start: str = "x"
    step_size: float = 1.0
    name: str = "FGSM"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UsageError(f"loss must be one of {', '.join(LOSSES)}. Got {self.loss!r}")
        if self.start not in ("x", "ball", "noise"):
            raise UsageError(f"start must be x, ball or noise. Got {self.start!r}")
        if not self.step_size > 0:
            raise UsageError(f"step_size must be > 0 (a fraction of eps). Got {self.step_size}")

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
        if not isinstance(threat, LpBall):
            raise UsageError(f"FGSM needs an L-infinity, L2 or L1 ball. Got {threat}")
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        if self.start != "x":
            active.judge(x, logits_of(model, x))
            if not len(active):
                return active.best
        x_adv = self._start(active, seed)
        grad, logits = gradient(model, x_adv, active.y, active.threat.goal, LOSSES[self.loss])
        if self.start == "x":
            stay = active.judge(x_adv, logits)
            x_adv, grad = x_adv[stay], grad[stay]
        if len(active):
            x_adv = ascend(active.threat, active.x, x_adv, grad, self.step_size)
            active.judge(x_adv, logits_of(model, x_adv))
        return active.best

    def _start(self, active: ActiveSet, seed: int) -> Tensor:
        if self.start == "x":
            return active.x
        if self.start == "ball":
            return active.threat.random_point(active.x, seed, active.rows, 0)
        threat = active.threat
        if not isinstance(threat, LpBall) or threat.norm != "linf":
            raise UsageError(f"start='noise' needs an L-infinity ball. Got {threat}")
        u = draws.uniform(seed, active.rows, 0, tuple(active.x.shape[1:])).to(active.x)
        noisy = active.x + (4 * u - 2) * per_row(threat.eps, active.x)
        return noisy.clamp(*threat.box)
