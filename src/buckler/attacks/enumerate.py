"""Every row the attacker could send, cheapest first: the exact answer where the space is finite."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from buckler.attacks.rows import Table, Values, finite_values, table
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats.features import FeatureThreat
from buckler.threats.features.legal import complete, snap
from buckler.threats.features.threat import ROUNDING

_TOGETHER = 400_000  # rows in memory at once
_SLAB = 32  # rows asked about of each row at first; doubled until it is won or all are asked
_SHARES = (1 / 64, 1 / 16, 1 / 4, 1.0)  # of the budget: most rows are won for little


@dataclass(frozen=True)
class Enumerate:
    """Asks about every row within the rules and the budget, cheapest first.

    A row that comes back as a win is the cheapest there is; one that does not cannot be won: the
    attack is a certificate, by the spec and for this model. It needs scores, no gradient.

    Args:
        values: what each feature may be set to; every value of every feature if not given.
        most: combinations a row within the budget.

    Raises (on call): UsageError for features with values without end, or where a row has more than
        `most` combinations.
    """

    values: Values | None = field(default=None, repr=False, compare=False)
    most: int = 1_000_000
    name: str = "Enumerate"

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
        every, _ = table(model, x, y, threat, rows, self.name)
        spec = every.threat.spec
        values = finite_values(spec) if self.values is None else self.values
        best = every.start.clone()
        objective = every.ask(torch.arange(len(x)), best)
        most = every.threat.limit(every.start)
        ceiling = torch.minimum(most, dearest(every.threat))
        done = objective > 0
        below = torch.full((len(x),), -1.0, dtype=torch.float64)
        for share in _SHARES:
            limit = most if share == 1 else ceiling * share
            left = (~done).nonzero()[:, 0]
            self._round(every, values, left, below, limit, best, objective)
            done, below = objective > 0, limit
        return every.sent(best)

    def _round(
        self,
        every: Table,
        values: Values,
        left: Tensor,
        below: Tensor,
        limit: Tensor,
        best: Tensor,
        objective: Tensor,
    ) -> None:
        """Ask about what costs more than `below` and at most `limit`; `best` and `objective` (n,)
        are changed."""
        size = 64
        while len(left):
            part = left[:size]
            owner, raw = combinations(every, values, part, limit, self.most)
            if len(raw) > _TOGETHER and size > 1:
                size = max(1, size // 4)  # fewer rows at a time
                continue
            left = left[size:]
            spent = every.threat.take(part[owner]).spent(every.start[part[owner]], raw)
            fresh = spent > below[part[owner]]
            owner, raw, spent = owner[fresh], raw[fresh], spent[fresh]
            order = torch.argsort(spent, stable=True)
            order = order[torch.argsort(owner[order], stable=True)]
            found, score = _first_win(every.take(part), owner[order], raw[order])
            better = score > objective[part]
            best[part[better]], objective[part[better]] = found[better], score[better]


def combinations(
    every: Table, values: Values, part: Tensor, limit: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """Which row of `part`, and the raw row, of each combination that costs at most `limit`.

    Raises: UsageError if a row has more than `most`.
    """
    spec, start = every.threat.spec, every.start[part]
    threat = every.threat.take(part)
    owner, raw = torch.arange(len(part)), start.clone()
    for index in spec.mutable:
        options = torch.cat([raw[:, index : index + 1], values[index].expand(len(raw), -1)], 1)
        fresh = options != start[owner, index : index + 1]
        fresh[:, 0] = True  # the one option that leaves it as it is
        at, option = fresh.nonzero().unbind(1)
        owner, raw = owner[at], raw[at]
        raw[:, index] = options[at, option]
        # A value that snapping moves is not allowed from here: its neighbour stands for itself.
        one = snap(spec, start[owner], raw)[:, index] == raw[:, index]
        spent = threat.take(owner).spent(start[owner], raw)
        keep = one & (spent <= limit[part[owner]] * (1 + ROUNDING) + 1e-7)
        owner, raw = owner[keep], raw[keep]
        if len(owner) and int(torch.bincount(owner).max()) > most:
            raise UsageError(
                f"a row has more than {most} combinations within the budget: use PriceSearch, a "
                "smaller budget, or a larger `most`"
            )
    return owner, complete(spec, start[owner], raw)


def _first_win(part: Table, owner: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """The first winning row of each owner, else the one of largest objective; rows in order."""
    n = len(part.start)
    best, objective = part.start.clone(), torch.full((n,), -torch.inf, dtype=torch.float64)
    counts = torch.bincount(owner, minlength=n)
    first = counts.cumsum(0) - counts
    asked, slab = torch.zeros(n, dtype=torch.int64), _SLAB
    while True:
        active = ((asked < counts) & (objective <= 0)).nonzero()[:, 0]
        if not len(active):
            return best, objective
        place = asked[active, None] + torch.arange(slab)
        at, offset = (place < counts[active, None]).nonzero().unbind(1)
        chosen = first[active[at]] + place[at, offset]
        score = torch.full(place.shape, -torch.inf, dtype=torch.float64)
        score[at, offset] = part.judge(active[at], raw[chosen])
        won = score > 0
        pick = torch.where(won.any(1), won.int().argmax(1), score.argmax(1))
        top = score.gather(1, pick[:, None])[:, 0]
        better = top > objective[active]
        objective[active[better]] = top[better]
        best[active[better]] = raw[(first[active] + asked[active] + pick)[better]]
        asked[active] += slab
        slab *= 2


def dearest(threat: FeatureThreat) -> Tensor:
    """(1,) at least what any change of a row whose values lie inside their ranges spends."""
    spec = threat.spec
    base = torch.zeros(1, len(spec.features), dtype=torch.float64)
    total = torch.zeros(1, dtype=torch.float64)
    for index in spec.mutable:
        feature = spec.features[index]
        ends = torch.tensor(feature.ends, dtype=torch.float64)
        values = feature.values if feature.kind == "category" else ends
        pairs = torch.cartesian_prod(values, values)
        before, after = base.repeat(len(pairs), 1), base.repeat(len(pairs), 1)
        before[:, index], after[:, index] = pairs.unbind(1)
        total = total + threat.spent(before, after).max()
    return total
