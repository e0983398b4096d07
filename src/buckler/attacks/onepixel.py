"""One pixel, or k: differential evolution over places and values, from scores alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.engine import ActiveSet, logits_of
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats import PixelBudget
from buckler.threats.pixels import as_grid

_VALUES = 1 << 18  # input values in one forward: more of them leave a CPU's cache


@dataclass(frozen=True)
class OnePixel:
    """One-pixel attack (Su, Vargas, Sakurai 2019, arXiv:1710.08864), for any pixel budget.

    A population of candidate changes a row; a child is the best member's or a random member's gene
    plus a scaled difference of two others, and replaces its parent if it does better. A row stops
    at its first success. Deviations from the paper: x itself is asked first, half the children grow
    from the best member, values start at the ends of the box or uniform, and a place that leaves
    the image re-enters at the other side.

    Args:
        population: members a row.
        generations: rounds after the first.
        scale: the factor on the difference of two members.
    """

    population: int = 100
    generations: int = 20
    scale: float = 0.5
    name: str = "OnePixel"

    def __post_init__(self) -> None:
        if self.population < 4 or self.generations < 0:
            raise UsageError(
                "OnePixel needs population >= 4 and generations >= 0. "
                f"Got population={self.population}, generations={self.generations}"
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
        if not isinstance(threat, PixelBudget):
            raise UsageError(f"OnePixel needs a PixelBudget. Got {threat}")
        active = ActiveSet(x.detach(), y, threat, rows)
        if len(active):
            active.judge(active.x, logits_of(model, active.x))
        if not len(active):
            return active.best
        genes = self._first(active, threat, seed)
        fitness, stay = self._rate(model, active, threat, genes)
        genes, fitness = genes[stay], fitness[stay]
        for generation in range(self.generations):
            if not len(active):
                break
            children = self._children(genes, fitness, active.rows, seed, generation)
            rated, stay = self._rate(model, active, threat, children)
            better = (rated > fitness)[stay]
            genes = torch.where(better[:, :, None, None], children[stay], genes[stay])
            fitness = torch.where(better, rated[stay], fitness[stay])
        return active.best

    @property
    def queries(self) -> int:
        """Forward passes of a row that is never won."""
        return 1 + self.population * (1 + self.generations)

    def _first(self, active: ActiveSet, threat: PixelBudget, seed: int) -> Tensor:
        """(n, population, pixels, 1 + channels): a place in [0, 1), then values in [0, 1]."""
        channels = threat.grid(active.x).shape[1]
        shape = (self.population, threat.pixels, 1 + channels)
        u = draws.uniform(draws.derive(seed, "first"), active.rows, 0, shape)
        # Places are spread evenly over the members, values lie at the ends for two in three.
        spread = torch.linspace(0, 1, self.population + 1, device=u.device)[:-1]
        u[..., 0] = (spread[:, None] + u[:, :1, :, 0]) % 1
        ends = draws.uniform(draws.derive(seed, "ends"), active.rows, 0, shape)[..., 1:]
        u[..., 1:] = torch.where(ends < 2 / 3, u[..., 1:].round(), u[..., 1:])
        return u.to(active.x.dtype)

    def _children(
        self, genes: Tensor, fitness: Tensor, rows: Tensor, seed: int, generation: int
    ) -> Tensor:
        n, size = fitness.shape
        pick = draws.integers(seed, rows, generation, (3, size), size)
        at = torch.arange(n, device=genes.device)[:, None]
        best = genes[at, fitness.argmax(1, keepdim=True)]
        a, b, c = (genes[at, pick[:, i]] for i in range(3))
        from_best = (torch.arange(size, device=genes.device) % 2 == 0)[None, :, None, None]
        child = torch.where(from_best, best, a) + self.scale * (b - c)
        return torch.cat([child[..., :1] % 1, child[..., 1:].clamp(0, 1)], -1)

    def _rate(
        self, model: Classifier, active: ActiveSet, threat: PixelBudget, genes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The objective of each member (n, population), and which rows are still to be won."""
        n, size = genes.shape[:2]
        box, grouped = threat.box, threat.grouped
        owner = torch.arange(n, device=genes.device).repeat_interleave(size)
        batch = max(1, _VALUES // active.x[0].numel())
        parts = zip(owner.split(batch), genes.flatten(0, 1).split(batch), strict=True)
        # Painted part by part: all members at once would take population times x's memory.
        logits = torch.cat(
            [
                logits_of(model, paint(active.x[own], part[:, None], box, grouped)[:, 0])
                for own, part in parts
            ]
        )
        goal = active.threat.goal.take(owner)
        fitness = goal.objective(logits, active.y[owner]).reshape(n, size)
        best = fitness.argmax(1)
        at = torch.arange(n, device=genes.device)
        points = paint(active.x, genes[at, best][:, None], box, grouped)[:, 0]
        stay = active.judge(points, logits.reshape(n, size, -1)[at, best])
        return fitness.to(genes.dtype), stay


def paint(x: Tensor, genes: Tensor, box: tuple[float, float], grouped: bool = True) -> Tensor:
    """x (n, ...) with the pixels of genes (n, p, k, 1 + c) set: (n, p, ...)."""
    low, high = box
    grid = as_grid(x, grouped)
    n, channels, places = grid.shape
    size = genes.shape[1]
    place = (genes[..., 0] * places).long().clamp(0, places - 1)
    values = (low + (high - low) * genes[..., 1:]).clamp(low, high)
    painted = grid[:, None].expand(n, size, channels, places).clone()
    painted.scatter_(
        3, place[:, :, None, :].expand(n, size, channels, -1), values.transpose(2, 3).contiguous()
    )
    return painted.reshape(n, size, *x.shape[1:])
