"""SimBA: one direction of a fixed basis at a time, up or down, from scores alone."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.engine import ActiveSet, logits_of
from buckler.attacks.square_windows import Image, as_image
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall
from buckler.threats.lp import per_row

Basis = Literal["pixel", "dct"]


@dataclass(frozen=True)
class SimBA:
    """Simple black-box attack (Guo et al. 2019, arXiv:1905.07121) in an L∞, L2 or L1 ball.

    Each row walks the basis in its own random order, tries a step up, then down, and keeps the
    first that does better; when the basis is through, it is shuffled again. Deviations: every step
    is projected into the ball, whose norm gives the basis its length (L∞: largest value 1), and the
    margin is climbed, not the probability of one class.

    Args:
        queries: forward passes a row, x itself included; a step down is asked only if up failed.
        step_size: fraction of eps.
        basis: "pixel", each value by itself; "dct", waves of one channel, the lowest frequencies.
        coarse: for "dct", the share of the frequencies along each side, lowest first.
    """

    queries: int = 1000
    step_size: float = 0.2
    basis: Basis = "dct"
    coarse: float = 0.5
    name: str = "SimBA"

    def __post_init__(self) -> None:
        if self.queries < 1 or not self.step_size > 0 or not 0 < self.coarse <= 1:
            raise UsageError(
                "SimBA needs queries >= 1, step_size > 0 (a fraction of eps) and 0 < coarse <= 1. "
                f"Got queries={self.queries}, step_size={self.step_size}, coarse={self.coarse}"
            )
        if self.basis not in get_args(Basis):
            raise UsageError(
                f"basis must be one of {', '.join(get_args(Basis))}. Got {self.basis!r}"
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
            raise UsageError(f"SimBA needs an L-infinity, L2 or L1 ball. Got {threat}")
        active = ActiveSet(x.detach(), y, threat, rows)
        if not len(active):
            return active.best
        active.judge(active.x, logits_of(model, active.x))
        image = as_image(tuple(x.shape[1:]))
        order = self._order(active.rows, image, seed)
        point = active.x
        turn = torch.zeros(len(point), dtype=torch.int64, device=x.device)
        down = torch.zeros_like(turn, dtype=torch.bool)
        for _ in range(self.queries - 1):
            if not len(active):
                break
            index = order.gather(1, turn[:, None])[:, 0]
            candidate = self._stepped(active, point, index, down, image)
            before = active.best_objective[active.index]
            stay = active.judge(candidate, logits_of(model, candidate))
            # A row's point is always its best: judge has just compared the two.
            better = active.best_objective[active.index] > before[stay]
            point = torch.where(per_row(better, point).bool(), candidate[stay], point[stay])
            down = down[stay]
            turn = turn[stay] + (better | down)
            order, down = order[stay], ~better & ~down
        return active.best

    def _order(self, rows: Tensor, image: Image, seed: int) -> Tensor:
        """(n, ≤ queries) directions, shuffled anew each time through the basis."""
        size = math.prod(self._counts(image))
        rounds = range(-(-self.queries // size))
        seed = draws.derive(seed, "order")
        shuffled = [
            draws.uniform(seed, rows, r, (size,)).argsort(dim=1, stable=True) for r in rounds
        ]
        return torch.cat(shuffled, 1)[:, : self.queries]

    def _counts(self, image: Image) -> Image:
        """Channels, and frequencies down and across."""
        c, h, w = image
        if self.basis == "pixel":
            return image
        return c, math.ceil(self.coarse * h), math.ceil(self.coarse * w)

    def _stepped(
        self, active: ActiveSet, point: Tensor, index: Tensor, down: Tensor, image: Image
    ) -> Tensor:
        threat = active.threat
        assert isinstance(threat, LpBall)
        size = self.step_size * torch.as_tensor(threat.eps, dtype=point.dtype, device=point.device)
        step = torch.where(down, -size, size)[:, None]
        flat = point.flatten(1)
        if self.basis == "pixel":
            moved = flat.scatter_add(1, index[:, None], step)
        else:
            moved = flat + step * waves(index, self._counts(image), image, threat.norm).to(flat)
        return threat.project(active.x, moved.reshape(point.shape))


def waves(index: Tensor, counts: Image, image: Image, norm: str) -> Tensor:
    """(n, c·h·w) cosine waves (DCT-II) of one channel each, of length 1 in the norm; float64."""
    _, high, wide = counts
    c, h, w = image
    channel, rest = index // (high * wide), index % (high * wide)
    wave = _cosines(h, rest // wide)[:, :, None] * _cosines(w, rest % wide)[:, None, :]
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    wave = wave / per_row(torch.linalg.vector_norm(wave.flatten(1), ord=order, dim=1), wave)
    every = wave.new_zeros(len(index), c, h * w)
    every[torch.arange(len(index), device=index.device), channel] = wave.flatten(1)
    return every.flatten(1)


def _cosines(size: int, frequency: Tensor) -> Tensor:
    at = (torch.arange(size, dtype=torch.float64, device=frequency.device) + 0.5) * math.pi / size
    return torch.cos(frequency[:, None] * at)
