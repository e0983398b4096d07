"""Square attack: random search with square windows, from scores alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks import square_bumps, square_windows
from buckler.attacks.engine import ActiveSet, logits_of
from buckler.attacks.square_windows import as_image, share, sides
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall

_AHEAD = 32  # queries whose draws are made at once


@dataclass(frozen=True)
class Square:
    """Square attack in an L∞, L2 or L1 ball; needs logits only.

    Andriushchenko et al. 2020 (arXiv:1912.00049); L1: Croce and Hein 2021 (arXiv:2103.01208).
    AutoAttack's parameters are queries=5000, p=0.8, rescale=False. Deviations: each row draws its
    own windows, which reach the last row and column and fit images of any shape; x itself is asked
    first; for L∞ a proposal that would change nothing has its signs turned over; a proposal that
    does as well is taken.

    Args:
        queries: forward passes a row, x itself included.
        p: share of the pixels in the first windows.
        rescale: the windows shrink along the paper's schedule for 10,000 queries, scaled to
            `queries`; False: unscaled, so that fewer queries see its beginning only.
    """

    queries: int = 1000
    p: float = 0.8
    rescale: bool = True
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
        if not isinstance(threat, LpBall):
            raise UsageError(f"Square needs an L-infinity, L2 or L1 ball. Got {threat}")
        active = ActiveSet(x.detach(), y, threat, rows)
        if len(active):
            active.judge(active.x, logits_of(model, active.x))
        if len(active) and self.queries > 1:
            self.search(model, active, seed)
        return active.best

    def search(self, model: Classifier, active: ActiveSet, seed: int) -> None:
        """Keep the better of the point and the point with new windows; row by row, until won."""
        if not len(active):
            return
        shape = active.x.shape[1:]
        image, linf = as_image(tuple(shape)), _ball(active).norm == "linf"
        propose = square_windows.flips if linf else square_bumps.moves
        numbers = (2 if linf else 5) + image[0]
        point = self._start(active, image, seed)
        objective = _objective(model, active, point)
        point, objective, _ = _leave(active, point, objective, point[:, :0])
        for step in range(self.queries - 2):
            if not len(active):
                return
            if step % _AHEAD == 0:
                ahead = (_AHEAD, numbers)
                u = draws.uniform(seed, active.rows, step // _AHEAD, ahead).to(point)
            part = share(self.p, step * (10_000 / self.queries if self.rescale else 1))
            size = sides(image, part, least=1 if linf else 3)
            where, new = propose(active.x, point, u[:, step % _AHEAD], size, image, _ball(active))
            old = point.gather(1, where)
            point.scatter_(1, where, new)
            found = _objective(model, active, point)
            better = found >= objective
            point.scatter_(1, where, torch.where(better[:, None], new, old))
            objective = torch.maximum(objective, found)
            point, objective, u = _leave(active, point, objective, u)
        _record(active, point, objective, torch.ones_like(objective, dtype=torch.bool))

    def _start(self, active: ActiveSet, image: square_windows.Image, seed: int) -> Tensor:
        """(n, d): stripes for L∞, bumps side by side for L2 and L1."""
        threat, (c, _, w) = _ball(active), image
        if threat.norm != "linf":
            return square_bumps.tiled(active.x, seed, active.rows, image, threat)
        u = draws.uniform(draws.derive(seed, "stripes"), active.rows, 0, (c * w,))
        signs = torch.where(u < 0.5, -1.0, 1.0).to(active.x)
        return square_windows.stripes(active.x, signs, image, threat)


def _objective(model: Classifier, active: ActiveSet, point: Tensor) -> Tensor:
    logits = logits_of(model, point.reshape(active.x.shape))
    return active.threat.goal.objective(logits, active.y).to(point.dtype)


def _leave(
    active: ActiveSet, point: Tensor, objective: Tensor, u: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Record the rows that are won and drop them."""
    won = objective > 0
    if bool(won.any()):
        _record(active, point, objective, won)
        active.keep(~won)
        point, objective, u = point[~won], objective[~won], u[~won]
    return point, objective, u


def _record(active: ActiveSet, point: Tensor, objective: Tensor, which: Tensor) -> None:
    """Note the point of these rows where it does better than x."""
    better = (which & (objective > active.best_objective[active.index])).nonzero()[:, 0]
    at = active.index[better]
    active.best[at] = point[better].reshape(-1, *active.x.shape[1:])
    active.best_objective[at] = objective[better]


def _ball(active: ActiveSet) -> LpBall:
    assert isinstance(active.threat, LpBall)
    return active.threat
