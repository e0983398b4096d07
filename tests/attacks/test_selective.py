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


def test_without_a_stop_pgd_climbs_on_after_the_win() -> None:
    x, y = torch.full((3, 1), 0.45), torch.zeros(3, dtype=torch.int64)
    threat = LpBall("linf", 0.2)

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([0.5 - x[:, 0], x[:, 0] - 0.5], 1)

    first = PGD(steps=20, step_size=0.1, loss="margin")(model, x, y, threat)
    last = PGD(steps=20, step_size=0.1, loss="margin", stop=False)(model, x, y, threat)
    assert ((first > 0.5) & (first < 0.55)).all()
    assert torch.allclose(last, torch.full_like(last, 0.65))
