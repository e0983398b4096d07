"""A guard that rejects near the border stops a summed loss, and does not stop a selective one."""

import torch

from buckler.attacks import PGD
from buckler.threats import Goal, LpBall


def view(x: torch.Tensor) -> torch.Tensor:
    """Class 1 where x > 0.5; rejected within 0.1 of it: the k + 1 view of such a guard."""
    u = x[:, 0] - 0.5
    z = torch.stack([-5 * u, 5 * u], 1)
    reject = z.amax(1) + 1 - 10 * u.abs()
    return torch.cat([z, reject[:, None]], 1)


def test_selective_pgd_crosses_where_margin_pgd_with_short_steps_turns_back() -> None:
    x, y = torch.full((5, 1), 0.35), torch.zeros(5, dtype=torch.int64)
    threat = LpBall("linf", 0.3, goal=Goal("guarded"))
    won = {}
    for loss in ("margin", "selective"):
        x_adv = PGD(steps=60, step_size=0.05, loss=loss)(view, x, y, threat)
        won[loss] = (threat.goal.objective(view(x_adv), y) > 0).tolist()
    assert won == {"margin": [False] * 5, "selective": [True] * 5}
