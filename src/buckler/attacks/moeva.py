"""A genetic search on tables: win, stay near, keep the rules. It asks for thousands of answers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.rows import Table, table
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats.features.legal import legal, snap
from buckler.threats.features.repair import halves

_TOGETHER = 4_000  # members in memory at once: the ranks compare each with each
_SPREAD = 20.0  # eta of the polynomial mutation


@dataclass(frozen=True)
class MOEVA:
    """Multi-objective evolution after Simonetto et al. 2022 (arXiv:2112.01156).

    Objectives: the model's answer, what is spent, and how far rules are broken. Deviations: the
    survivors are chosen by rank and crowding (NSGA-II, Deb et al. 2002) in place of reference
    directions (R-NSGA-III); all rows of a block evolve side by side; a row leaves when it is won.

    Args:
        population, generations: asked for population × (generations + 1) answers a row that holds.
    """

    population: int = 100
    generations: int = 100
    name: str = "MOEVA"

    def __post_init__(self) -> None:
        if self.population < 4 or self.population % 2 or self.generations < 1:
            raise UsageError(
                "MOEVA needs an even population >= 4 and generations >= 1. "
                f"Got {self.population}, {self.generations}"
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
        every, rows = table(model, x, y, threat, rows, self.name)
        raw, score = every.start.clone(), every.ask(torch.arange(len(x)), every.start)
        left = (score <= 0).nonzero()[:, 0]
        for block in left.split(max(1, _TOGETHER // (2 * self.population))):
            if not len(block):  # no row at all is left
                break
            raw[block] = self._evolve(every.take(block), rows.cpu()[block], seed, score[block])
        return every.sent(raw)

    def _evolve(self, part: Table, rows: Tensor, seed: int, score: Tensor) -> Tensor:
        best = part.start.clone()
        at = torch.arange(len(rows))
        genes = self._mutated(
            part, part.start[:, None].repeat(1, self.population, 1), rows, seed, 0
        )
        worth = self._worth(part, genes, at, best, score)
        for step in range(1, self.generations + 1):
            stay = (score[at] <= 0).nonzero()[:, 0]
            part, rows, at = part.take(stay), rows[stay], at[stay]
            genes, worth = genes[stay], worth[stay]
            if not len(at):
                break
            children = self._children(part, genes, worth, rows, seed, step)
            fresh = self._worth(part, children, at, best, score)
            genes, worth = survivors(
                torch.cat([genes, children], 1), torch.cat([worth, fresh], 1), self.population
            )
        return best

    def _worth(self, part: Table, genes: Tensor, at: Tensor, best: Tensor, score: Tensor) -> Tensor:
        """(n, p, 3), smaller is better; `best` and `score` are changed where a row does better."""
        n, size = genes.shape[:2]
        owner, raw = torch.arange(n).repeat_interleave(size), genes.flatten(0, 1)
        start, threat = part.start[owner], part.threat.take(owner)
        objective = part.ask(owner, raw)
        spent, broken = threat.spent(start, raw), violation(part, raw)
        sent = legal(threat.spec, start, raw) & threat.affordable(start, raw)
        value = torch.where(sent, objective, -torch.inf).reshape(n, size)
        top, where = value.max(1)
        better = top > score[at]
        best[at[better]] = genes[torch.arange(n), where][better]
        score[at[better]] = top[better]
        return torch.stack([-objective, spent, broken], 1).reshape(n, size, 3)

    def _children(
        self, part: Table, genes: Tensor, worth: Tensor, rows: Tensor, seed: int, step: int
    ) -> Tensor:
        """Tournaments of two by rank, two-point crossover, mutation."""
        size, features = genes.shape[1:]
        u = draws.uniform(draws.derive(seed, "mate"), rows, step, (size, 4)).double()
        rank = ranks(worth)
        one, two = (u[..., 0] * size).long(), (u[..., 1] * size).long()
        first = torch.where(rank.gather(1, one) <= rank.gather(1, two), one, two)
        parents = genes.gather(1, first[..., None].expand(-1, -1, features))
        mates = parents.roll(1, 1)
        cut = (u[..., 2:] * (features + 1)).long().sort(2).values
        place = torch.arange(features)
        inside = (place >= cut[..., :1]) & (place < cut[..., 1:])
        return self._mutated(part, torch.where(inside, mates, parents), rows, seed, step)

    def _mutated(self, part: Table, genes: Tensor, rows: Tensor, seed: int, step: int) -> Tensor:
        """Polynomial mutation of about one mutable feature a member; types and ranges are kept."""
        spec = part.threat.spec
        n, size, features = genes.shape
        u = draws.uniform(draws.derive(seed, "mutate"), rows, step, (2, size, features)).double()
        lower = (2 * u[:, 1]) ** (1 / (_SPREAD + 1)) - 1
        upper = 1 - (2 * (1 - u[:, 1])) ** (1 / (_SPREAD + 1))
        delta = torch.where(u[:, 1] < 0.5, lower, upper)
        moved = genes.clone()
        for index in spec.mutable:
            feature = spec.features[index]
            low, high = feature.ends
            step_to = genes[..., index] + delta[..., index] * (high - low)
            if feature.levels:
                step_to = feature.values[(u[:, 1, :, index] * len(feature.levels)).long()]
            elif feature.kind == "integer":  # a whole step at least
                step_to = torch.where(delta[..., index] > 0, step_to.ceil(), step_to.floor())
            chosen = u[:, 0, :, index] < 1 / len(spec.mutable)
            moved[..., index] = torch.where(chosen, step_to, genes[..., index])
        owner = torch.arange(n).repeat_interleave(size)
        return snap(spec, part.start[owner], moved.flatten(0, 1)).reshape(genes.shape)


def violation(part: Table, raw: Tensor) -> Tensor:
    """(m,) how many rules are broken, and by how much where they are linear."""
    spec, columns = part.threat.spec, part.threat.spec.columns(raw)
    total = torch.zeros(len(raw), dtype=torch.float64)
    for rule in spec.compiled:
        broken = ~rule.holds(columns)
        total += broken
        for half in halves(spec, rule.then, True):
            total += broken * half.excess(raw).clamp(min=0) / (1 + abs(half.most))
    return total


def ranks(worth: Tensor) -> Tensor:
    """(n, p) the front each member (n, p, objectives) stands in; 0 is dominated by none."""
    a, b = worth[:, :, None], worth[:, None]
    dominates = ((a <= b).all(3) & (a < b).any(3)).double()  # (n, p, p): row over column
    rank = torch.full(worth.shape[:2], -1)
    front = 0
    while bool((rank < 0).any()):
        open_ = (rank < 0).double()
        free = (open_[:, None] @ dominates)[:, 0] == 0
        rank[free & (rank < 0)] = front
        front += 1
    return rank


def survivors(genes: Tensor, worth: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The `size` best by front, within a front those with most room around them."""
    rank = ranks(worth)
    room = torch.zeros(worth.shape[:2], dtype=torch.float64)
    for objective in range(worth.shape[2]):
        value = worth[..., objective]
        order = (value + 0.0).argsort(dim=1, stable=True)
        ordered = value.gather(1, order)
        wide = (ordered[:, -1:] - ordered[:, :1]).clamp_min(1e-12)
        gap = torch.full_like(ordered, torch.inf)
        gap[:, 1:-1] = (ordered[:, 2:] - ordered[:, :-2]) / wide
        room.scatter_add_(1, order, gap)
    key = rank.double() - room.clamp(max=1e6) / 1e7
    chosen = key.argsort(dim=1, stable=True)[:, :size]
    kept = worth.gather(1, chosen[..., None].expand(-1, -1, 3))
    return genes.gather(1, chosen[..., None].expand(-1, -1, genes.shape[2])), kept
