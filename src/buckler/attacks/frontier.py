"""The rows of a search on tables, and the best that was seen of each."""

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.rows import Table
from buckler.threats.features.legal import legal, snap
from buckler.threats.features.repair import repair
from buckler.threats.features.threat import ROUNDING


class Frontier:
    """The rows of a block, and the best raw row seen of each: once one wins, the cheapest winner.

    score, price: (n,) objective and price of the best; the price is inf until it wins.
    cap: (n,) what may be spent now. alive: (n,) the rows that still ask.
    """

    def __init__(self, part: Table) -> None:
        n = len(part.start)
        self.part, self.best = part, part.start.clone()
        self.score = torch.full((n,), -torch.inf, dtype=torch.float64)
        self.price = torch.full((n,), torch.inf, dtype=torch.float64)
        self.open(part.threat.limit(part.start))

    def open(self, cap: Tensor) -> None:
        """Spend up to `cap` (n,); rows that have won ask on only where money can be saved."""
        self.cap = cap * (1 + ROUNDING) + 1e-7
        won = self.score > 0
        saving = torch.full_like(won, self.part.threat.unit == "money")
        self.alive = ~won | (saving & (self.price > self.cap))

    def judge(self, raw: Tensor) -> Tensor:
        """(n, c) objective of raw rows (n, c, features); -inf for those not asked about."""
        n, count = raw.shape[:2]
        score = torch.full((n, count), -torch.inf, dtype=torch.float64)
        left = self.alive.nonzero()[:, 0]
        if not len(left) or not count:
            return score
        owner, flat = left.repeat_interleave(count), raw[left].flatten(0, 1)
        part = self.part
        spent = part.threat.take(owner).spent(part.start[owner], flat)
        may = spent <= torch.minimum(self.cap, self.price - 1e-9)[owner]
        found = torch.full((len(owner),), -torch.inf, dtype=torch.float64)
        found[may] = self._asked(owner[may], flat[may])
        score[left], price = found.reshape(-1, count), spent.reshape(-1, count)
        # Among winners the cheapest, else the highest score.
        won = score[left] > 0
        cheapest = torch.where(won, price, torch.inf).argmin(1)
        at = torch.where(won.any(1), cheapest, score[left].argmax(1))
        rows = torch.arange(len(left))
        top, cost = score[left][rows, at], price[rows, at]
        better = (won.any(1)) | ((self.score[left] <= 0) & (top > self.score[left]))
        chosen = left[better]
        self.best[chosen], self.score[chosen] = raw[left][rows, at][better], top[better]
        self.price[chosen] = torch.where(top > 0, cost, torch.inf)[better]
        if part.threat.unit != "money":
            self.alive &= self.score <= 0
        return score

    def _asked(self, owner: Tensor, raw: Tensor) -> Tensor:
        """The objective of raw rows (m, features), each different one asked about once."""
        probe = draws.normal(0, torch.zeros(1, dtype=torch.int64), 0, (raw.shape[1],)).double()
        keys = torch.stack([owner.double(), (raw * probe).sum(1)], 1)
        unique, inverse = torch.unique(keys, dim=0, return_inverse=True)
        first = torch.empty(len(unique), dtype=torch.int64)
        first[inverse] = torch.arange(len(raw))
        return self.part.judge(owner[first], raw[first])[inverse]

    def _mended(self, owner: Tensor, asked: Tensor) -> Tensor:
        """The raw rows repaired, each at the end of its implications where that is cheaper."""
        start, threat = self.part.start[owner], self.part.threat.take(owner)
        flat = repair(threat.spec, start, asked)
        at = (flat != snap(threat.spec, start, asked)).any(1).nonzero()[:, 0]
        if len(at) and any(rule.given is not None for rule in threat.spec.compiled):
            start, threat = start[at], threat.take(at)
            both = [flat[at], repair(threat.spec, start, asked[at], back=True)]
            price = [
                torch.where(legal(threat.spec, start, each), threat.spent(start, each), torch.inf)
                for each in both
            ]
            flat[at] = torch.where((price[1] < price[0])[:, None], both[1], both[0])
        return flat

    def try_moves(
        self, states: Tensor, feature: Tensor, to: Tensor, fit: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each state (n, w, f) with each move made: the rows (n, w, m, f), their objective
        (n, w, m) and what they spend.

        Args:
            feature: (m,), or (n, m) a row its own.
            to: (n, m), or (n, w, m).
            fit: draw what cannot be paid back towards the start, instead of leaving it out.
        """
        part, (n, wide) = self.part, states.shape[:2]
        m = to.shape[-1]
        index = feature.expand(n, m)[:, None, :, None].expand(n, wide, m, 1)
        target = (to if to.ndim == 3 else to[:, None]).expand(n, wide, m)[..., None]
        made = states[:, :, None].expand(n, wide, m, states.shape[2]).scatter(3, index, target)
        owner = torch.arange(n).repeat_interleave(wide * m)
        flat = self._mended(owner, made.flatten(0, 2))
        if fit:
            dear = ~part.threat.take(owner).affordable(part.start[owner], flat)
            dear &= self.alive[owner]
            flat[dear] = part.threat.take(owner[dear]).fitted(part.start[owner[dear]], flat[dear])
        # A move that only comes back to where it stood, or is taken back by the mending, is none.
        same = (flat == states.flatten(0, 1).repeat_interleave(m, 0)).all(1)
        flat[same] = part.start[owner[same]]
        made = flat.reshape(made.shape)
        score = self.judge(made.flatten(1, 2)).reshape(n, wide, m)
        spent = part.threat.take(owner).spent(part.start[owner], flat).reshape(n, wide, m)
        return made, score, spent
