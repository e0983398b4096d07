"""The inner step of adversarial training: the same climb as PGD, but nobody stops at a win."""

from torch import Tensor

from buckler.attacks.engine import gradient
from buckler.losses import Loss, cross_entropy
from buckler.protocols import Classifier
from buckler.threats import LpBall
from buckler.threats.lp import per_row


def perturb(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: LpBall,
    *,
    steps: int,
    step_size: float,
    seed: int,
    rows: Tensor,
    loss: Loss = cross_entropy,
) -> Tensor:
    """x_adv (n, ...) after `steps` of PGD on the loss from a random start.

    Training wants the point of highest loss, not the first that wins (Madry et al. 2018).

    Args:
        y: what the loss takes: labels (n,), or for a loss of its own whatever has n rows.
        step_size: fraction of eps.
    """
    x_adv = threat.random_point(x, seed, rows, 0)
    for _ in range(steps):
        grad, _ = gradient(model, x_adv, y, threat.goal, loss)
        x_adv = threat.project(
            x, x_adv + step_size * per_row(threat.eps, x) * threat.steepest(grad)
        )
    return x_adv.detach()
