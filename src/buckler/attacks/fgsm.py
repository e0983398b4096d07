"""One step along the sign of the gradient."""

from dataclasses import dataclass

from torch import Tensor

from buckler.attacks.engine import ActiveSet, gradient, logits_of
from buckler.errors import UsageError
from buckler.losses import LOSSES
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall
from buckler.threats.lp import per_row


@dataclass(frozen=True)
class FGSM:
    """Fast gradient sign method (Goodfellow et al. 2015); targeted if the threat's goal is.

    Under an L2 ball the step is the gradient's direction at full length.
    """

    loss: str = "ce"
    name: str = "FGSM"

    def __post_init__(self) -> None:
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
        if not isinstance(threat, LpBall):
            raise UsageError(f"FGSM needs an L-infinity or L2 ball. Got {threat}")
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        loss = LOSSES[self.loss]
        grad, logits = gradient(model, x, lambda z: loss(z, y, threat.goal))
        x_adv = threat.project(x, x + per_row(threat.eps, x) * threat.steepest(grad))
        x_adv = x_adv[active.judge(x, logits)]  # a row that x itself wins stays there
        if len(active):
            active.judge(x_adv, logits_of(model, x_adv))
        return active.best
