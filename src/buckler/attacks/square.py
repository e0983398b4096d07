"""Square attack: random search with square patches, from scores alone."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.engine import ActiveSet, logits_of
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall
from buckler.threats.lp import per_row

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries


@dataclass(frozen=True)
class Square:
    """Square attack, L∞ (Andriushchenko et al. 2020, arXiv:1912.00049); needs logits only.

    Each row draws its own window and signs. The window covers the share p of the pixels, which is
    halved along the paper's schedule, scaled to the number of queries. Inputs without height and
    width are one line of pixels.

    Args:
        queries: forward passes a row, the first point included.
        p: share of the pixels in the first windows.
    """

    queries: int = 1000
    p: float = 0.8
    name: str = "Square"

    def __post_init__(self) -> None:
        if self.queries < 1 or not 0 < self.p <= 1:
            raise UsageError(
                f"Square needs queries >= 1 and 0 < p <= 1. Got queries={self.queries}, p={self.p}"
            )

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
        if not isinstance(threat, LpBall) or threat.norm != "linf":
            raise UsageError(f"Square needs an L-infinity ball. Got {threat}")
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        x_adv = self._stripes(active, seed)
        objective = torch.full((len(active),), -torch.inf, dtype=x.dtype, device=x.device)
        candidate = x_adv
        for query in range(self.queries):
            logits = logits_of(model, candidate)
            new = active.threat.goal.objective(logits, active.y).to(objective.dtype)
            better = new > objective
            x_adv = torch.where(per_row(better, x_adv).bool(), candidate, x_adv)
            objective = torch.where(better, new, objective)
            stay = active.judge(candidate, logits)
            if not len(active):
                break
            x_adv, objective = x_adv[stay], objective[stay]
            candidate = self._propose(active, x_adv, seed, query)
        return active.best

    def _stripes(self, active: ActiveSet, seed: int) -> Tensor:
        """The first point: vertical stripes of ±eps, one sign a column and channel."""
        image = _as_image(active.x)
        c, w = image.shape[1], image.shape[3]
        signs = _signs(draws.uniform(draws.derive(seed, "stripes"), active.rows, 0, (c, 1, w)))
        delta = signs.to(image) * _eps(active, image)
        return active.threat.project(active.x, (image + delta).reshape(active.x.shape))

    def _propose(self, active: ActiveSet, x_adv: Tensor, seed: int, query: int) -> Tensor:
        """x_adv with one window set to x ± eps, one sign a channel."""
        image, current = _as_image(active.x), _as_image(x_adv)
        c, h, w = image.shape[1:]
        area = self._share(query) * h * w
        tall = min(h, max(1, round(math.sqrt(area))))
        wide = min(w, max(1, round(area / tall)))
        u = draws.uniform(seed, active.rows, query, (2 + c,)).to(image)
        top = (u[:, 0] * (h - tall + 1)).long()[:, None]
        left = (u[:, 1] * (w - wide + 1)).long()[:, None]
        down, across = torch.arange(h, device=u.device), torch.arange(w, device=u.device)
        in_rows = (down >= top) & (down < top + tall)
        in_columns = (across >= left) & (across < left + wide)
        window = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
        changed = image + _signs(u[:, 2:])[:, :, None, None] * _eps(active, image)
        candidate = torch.where(window, changed, current).reshape(x_adv.shape)
        return active.threat.project(active.x, candidate)

    def _share(self, query: int) -> float:
        at = query / self.queries * 10_000
        return float(self.p / 2 ** sum(at > halving for halving in _HALVINGS))


def _as_image(x: Tensor) -> Tensor:
    """(n, c, h, w); (n, h, w) has one channel, other shapes are one line of pixels."""
    if x.ndim == 4:
        return x
    if x.ndim == 3:
        return x[:, None]
    return x.flatten(1)[:, None, None, :]


def _eps(active: ActiveSet, image: Tensor) -> Tensor:
    assert isinstance(active.threat, LpBall)
    return per_row(active.threat.eps, image)


def _signs(u: Tensor) -> Tensor:
    return torch.where(u < 0.5, -1.0, 1.0)
