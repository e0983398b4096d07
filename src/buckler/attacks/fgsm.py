"""One step along the sign of the gradient."""

from dataclasses import dataclass

from torch import Tensor

from buckler.attacks.engine import gradient
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
        if not len(x):
            return x.clone()
        loss = LOSSES[self.loss]
        grad, _ = gradient(model, x, lambda logits: loss(logits, y, threat.goal))
        return threat.project(x, x + per_row(threat.eps, x) * threat.steepest(grad))
