"""Turn, shift and scale: the worst of many transforms, coarse first, then around the best."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.engine import ActiveSet, logits_of
from buckler.attacks.parameters import try_all
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats.spatial import Spatial


@dataclass(frozen=True)
class WorstOfK:
    """Rotation, translation and scale, from scores alone (Engstrom et al. 2019, arXiv:1712.02779).

    The paper's worst of k random transforms, or its grid. Deviation: further rounds look around
    the best transform found, at half the distance each; won rows leave.

    Args:
        k: random transforms a row; none where a grid is asked for.
        grid: points along each parameter that is free (0: random transforms instead).
        rounds: searches around the best.
        around: transforms a round.
    """

    k: int = 32
    grid: int = 0
    rounds: int = 3
    around: int = 8
    name: str = "Spatial"

    def __post_init__(self) -> None:
        if self.k < 1 or self.grid == 1 or min(self.grid, self.rounds) < 0 or self.around < 1:
            raise UsageError(
                "WorstOfK needs k >= 1, grid 0 or >= 2, rounds >= 0 and around >= 1. Got "
                f"k={self.k}, grid={self.grid}, rounds={self.rounds}, around={self.around}"
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
        if not isinstance(threat, Spatial):
            raise UsageError(f"WorstOfK needs a Spatial threat. Got {threat}")
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        active.judge(x, logits_of(model, x))
        candidates = self._first(active, threat, seed)
        for search in range(self.rounds + 1):
            left, scores = try_all(model, active, threat.transform, candidates)
            if not len(active):
                break
            best = candidates[left, scores.argmax(1)]
            u = draws.uniform(
                draws.derive(seed, "around"), active.rows, search, (self.around, best.shape[1])
            )
            moved = best[:, None] + 0.5 ** (search + 1) * (2 * u.to(best) - 1)
            # The best stays among them, so that a round never loses it.
            candidates = torch.cat([best[:, None], self._inside(moved, threat)], 1)
        return active.best

    def _first(self, active: ActiveSet, threat: Spatial, seed: int) -> Tensor:
        """(n, m, p): the grid, or k random transforms."""
        if self.grid:
            line = torch.linspace(-1, 1, self.grid, dtype=active.x.dtype, device=active.x.device)
            axes = [line if free else line.new_zeros(1) for free in threat.free]
            return torch.cartesian_prod(*axes).expand(len(active), -1, -1)
        u = draws.uniform(seed, active.rows, 0, (self.k, len(threat.free)))
        return self._inside(2 * u.to(active.x) - 1, threat)

    def _inside(self, params: Tensor, threat: Spatial) -> Tensor:
        return params.clamp(-1, 1) * torch.tensor(threat.free, device=params.device)
