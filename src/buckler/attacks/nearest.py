"""The nearest winning point of every row: what minimal-norm attacks keep, and never drop."""

import torch
from torch import Tensor

from buckler.attacks.engine import checked_rows, logits_of
from buckler.errors import UsageError
from buckler.losses import LOSSES
from buckler.protocols import Classifier, Threat

SIGNED = {name: LOSSES[name] for name in ("margin", "selective")}
"""Losses that are > 0 exactly where the attacker has won: zero is the border to walk to."""

_ROUNDING = 16  # last bits of the largest logit


def check_signed(loss: str) -> None:
    """Raises: UsageError if `loss` is not the name of a loss with the sign of a win."""
    if loss not in SIGNED:
        raise UsageError(
            f"loss must be one of {', '.join(SIGNED)}: only they are zero at the border. "
            f"Got {loss!r}"
        )


class Nearest:
    """The nearest winning point seen of every row, however far; of rows never won, the point of
    best objective.

    A win ends nothing here: rows leave when the attack says so. `x`, `y`, `threat` and `rows` are
    those of the active rows; `index` says where each stands among all; `best`, `distance`
    (infinite where not won) and `objective` are of all rows.
    """

    def __init__(self, x: Tensor, y: Tensor, threat: Threat, rows: Tensor | None) -> None:
        x, rows = checked_rows(x, y, threat, rows)
        self.x, self.y, self.threat, self.rows = x, y, threat, rows
        self.index = torch.arange(len(x), device=x.device)
        self.best = x.clone(memory_format=torch.contiguous_format)
        self.distance = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        self.objective = -self.distance
        self._all = (x, y, threat, rows)

    def __len__(self) -> int:
        return len(self.x)

    def judge(self, candidates: Tensor, logits: Tensor, least: float = 0.0) -> Tensor:
        """Record the points that are nearer wins, or better losses of rows not won yet.

        Returns: (active,) the objective at the candidates, less what rounding may make of it: a
            nearest point lies on the border, and whoever asks the model again, in another batch or
            laid out otherwise, must find it won. Those over `least` (≥ 0) have won.
        """
        objective = self.threat.goal.objective(logits, self.y).to(self.objective.dtype)
        least_bit = torch.finfo(objective.dtype).eps
        objective = objective - _ROUNDING * least_bit * logits.abs().amax(1).to(objective.dtype)
        far = self.threat.distance(self.x, candidates).masked_fill_(objective <= least, torch.inf)
        whole = len(self) == len(self.best)
        nearest = self.distance if whole else self.distance[self.index]
        highest = self.objective if whole else self.objective[self.index]
        better = ((far < nearest) | torch.isinf(nearest) & (objective > highest)).nonzero()[:, 0]
        if len(better):
            at = better if whole else self.index[better]
            self.best.index_copy_(0, at, candidates.detach().index_select(0, better))
            self.distance.index_copy_(0, at, far[better])
            self.objective.index_copy_(0, at, objective[better])
        return objective

    def keep(self, stay: Tensor) -> None:
        """Slice the active rows to those where `stay` (active,) is true."""
        where = stay.nonzero()[:, 0]
        self.x, self.y, self.rows = self.x[where], self.y[where], self.rows[where]
        self.threat, self.index = self.threat.take(where), self.index[where]

    def reopen(self, which: Tensor) -> None:
        """Make the rows active where `which` (all rows,) is true, and no others."""
        where = which.nonzero()[:, 0]
        x, y, threat, rows = self._all
        self.x, self.y, self.rows = x[where], y[where], rows[where]
        self.threat, self.index = threat.take(where), where


def farthest_corner(x: Tensor, box: tuple[float, float]) -> Tensor:
    """The point of the box farthest from x in every norm."""
    low, high = box
    return torch.where(x - low > high - x, low, high).to(x)


def search_towards_x(model: Classifier, near: Nearest, clean: Tensor, steps: int) -> None:
    """Look for nearer wins between each won row's nearest point and x, `steps` forwards a row.

    Where the objective would cross zero if it were linear between the last win and the last loss
    (the final search of Croce and Hein 2020, arXiv:1907.02044), a tenth of the way back.

    clean: (all rows,) the objective at x.
    """
    near.reopen(torch.isfinite(near.distance) & (near.distance > 0))
    if not len(near) or not steps:
        return
    x, far = near.x, near.best[near.index]
    shape = (-1, *[1] * (x.ndim - 1))
    inner, outer = x.new_zeros(len(x)), x.new_ones(len(x))  # shares of the way to the nearest win
    loss = clean[near.index]
    win = near.objective[near.index]
    for _ in range(steps):
        cross = inner + (outer - inner) * (-loss / (win - loss).clamp_min(1e-12)).clamp(0, 1)
        share = cross + 0.1 * (outer - cross)
        point = torch.lerp(x, far, share.reshape(shape)).clamp(*near.threat.box)
        logits = logits_of(model, point)
        objective = near.judge(point, logits)
        won = objective > 0
        inner, loss = torch.where(won, inner, share), torch.where(won, loss, objective)
        outer, win = torch.where(won, share, outer), torch.where(won, objective, win)
