"""Best-first and beam search over priced moves, from scores alone: the finisher for tables.

Gradients and rounding overstate how sturdy a classifier of tables is: whole numbers, levels and
rules leave steps too coarse to follow a slope. A search over the moves themselves does not mind.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.enumerate import dearest
from buckler.attacks.rows import Table, Values, grid_values, table
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats.features.repair import repair
from buckler.threats.features.threat import ROUNDING

Order = Literal["score", "score per price"]
_TOGETHER = 60_000  # rows that stand in memory at once
_SHARES = (1.0, 0.5, 0.25, 0.1)  # of a distance budget, in one feature
_RISING = (1 / 16, 1 / 4, 1.0)  # of the money: what is won for little is asked about first
_FREE = 1e-3  # of the dearest move: what a move that costs nothing is taken to cost


@dataclass(frozen=True)
class PriceSearch:
    """Every single move, then the best of them together, then a beam; what won is trimmed.

    A move sets one feature to one value; what rules tie to it follows (`repair`). Greedy over a
    graph of costs is Kireev et al. 2023 (arXiv:2206.12715); deviations: all rows of a block search
    side by side, moves are ranked once by what they gain alone, and the first states are the moves'
    own prefixes in that order, so that the beam starts where most of the budget is spent. Under a
    budget in money, small parts of it are spent first, and what has won looks on for less.

    Args:
        width: states a row that are carried on together (1: greedy).
        depth: rounds of the beam.
        tries: moves a state tries in a round, those that gained most alone.
        order: rank moves by the score they gain, or by that per price; the first states use both.
        points: values tried along a range; beside them the shares 1, 1/2, 1/4 and 1/10 of a
            distance budget either way.
        values: instead of those of the range: `split_values` for trees.
        trim: then undo or cheapen each move of a winning row while it still wins.
    """

    width: int = 3
    depth: int = 8
    tries: int = 24
    order: Order = "score per price"
    points: int = 9
    values: Values | None = field(default=None, repr=False, compare=False)
    trim: bool = True
    name: str = "PriceSearch"

    def __post_init__(self) -> None:
        if min(self.width, self.tries, self.points) < 1 or self.depth < 0:
            raise UsageError(
                "PriceSearch needs width, tries and points >= 1, depth >= 0. "
                f"Got {self.width}, {self.tries}, {self.points}, {self.depth}"
            )
        if self.order not in get_args(Order):
            raise UsageError(f"order must be one of {', '.join(get_args(Order))}. Got {self.order}")

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
        values = self.values or grid_values(spec, self.points)
        moves = sum(map(len, values)) + 2 * len(_SHARES) * len(spec.mutable)
        raw, objective = every.start.clone(), every.ask(torch.arange(len(x)), every.start)
        left = (objective <= 0).nonzero()[:, 0]
        for block in left.split(max(1, _TOGETHER // max(1, moves))):
            if not len(block):  # no row at all is left
                break
            found, score = self._block(every.take(block), values)
            better = score > objective[block]
            raw[block[better]] = found[better]
        return every.sent(raw)

    def _block(self, part: Table, values: Values) -> tuple[Tensor, Tensor]:
        """(n, features) and (n,): the best raw rows found and their objective."""
        search = _Search(part)
        feature, to = moves_of(part, values)
        if not len(feature):
            return search.best, search.score
        single, gain, price = search.try_moves(part.start[:, None], feature, to)
        ranks = {order: rank_moves(gain[:, 0], price[:, 0], order) for order in get_args(Order)}
        rank = ranks[self.order][:, : self.tries]
        money = part.threat.unit == "money"
        ceiling = torch.minimum(part.threat.limit(part.start), dearest(part.threat))
        for share in _RISING if money else (1.0,):
            # What is won for less needs no more: a row goes on only below the price it has.
            search.open(ceiling * share if share < 1 else part.threat.limit(part.start))
            cheap = torch.where(price[:, 0] <= search.cap[:, None], gain[:, 0], -torch.inf)
            made = [self._prefixes(search, feature, to, each) for each in ranks.values()]
            states = torch.cat([single[:, 0], *(each for each, _ in made)], 1)
            scores = torch.cat([cheap, *(each for _, each in made)], 1)
            self._beam(search, states, scores, feature[rank], to.gather(1, rank))
        if self.trim and money:
            _trim(search, values)
        return search.best, search.score

    def _beam(
        self, search: "_Search", states: Tensor, scores: Tensor, feature: Tensor, to: Tensor
    ) -> None:
        """Carry the best states on, round by round; a row that has not gained stops."""
        for _ in range(self.depth):
            if not bool(search.alive.any()):
                return
            score, price = search.score.clone(), search.price.clone()
            beam = pick(states, scores, self.width)
            tried = to[:, None].expand(-1, beam.shape[1], -1)
            made, found, _ = search.try_moves(beam, feature, tried)
            states, scores = made.flatten(1, 2), found.flatten(1, 2)
            search.alive &= (search.score > score) | (search.price < price)

    def _prefixes(
        self, search: "_Search", feature: Tensor, to: Tensor, rank: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The moves in this order, one a feature, as long as they can be paid: every prefix."""
        part = search.part
        state = part.start.clone()
        states = []
        for place in range(min(self.tries, rank.shape[1])):
            move = rank[:, place]
            index = feature[move][:, None]
            untouched = state.gather(1, index) == part.start.gather(1, index)
            ahead = state.scatter(1, index, to.gather(1, move[:, None]))
            ahead = repair(part.threat.spec, part.start, ahead)
            take = untouched[:, 0] & (part.threat.spent(part.start, ahead) <= search.cap)
            state = torch.where(take[:, None], ahead, state)
            states.append(state)
        made = torch.stack(states, 1)
        return made, search.judge(made)


class _Search:
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

    def try_moves(
        self, states: Tensor, feature: Tensor, to: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each state (n, w, f) with each move made: the rows (n, w, m, f), their objective
        (n, w, m) and what they spend.

        Args:
            feature: (m,), or (n, m) a row its own.
            to: (n, m), or (n, w, m).
        """
        part, (n, wide) = self.part, states.shape[:2]
        m = to.shape[-1]
        index = feature.expand(n, m)[:, None, :, None].expand(n, wide, m, 1)
        target = (to if to.ndim == 3 else to[:, None]).expand(n, wide, m)[..., None]
        made = states[:, :, None].expand(n, wide, m, states.shape[2]).scatter(3, index, target)
        owner = torch.arange(n).repeat_interleave(wide * m)
        flat = repair(part.threat.spec, part.start[owner], made.flatten(0, 2))
        # A move that only comes back to where it stood, or is taken back by the mending, is none.
        same = (flat == states.flatten(0, 1).repeat_interleave(m, 0)).all(1)
        flat[same] = part.start[owner[same]]
        made = flat.reshape(made.shape)
        score = self.judge(made.flatten(1, 2)).reshape(n, wide, m)
        spent = part.threat.take(owner).spent(part.start[owner], flat).reshape(n, wide, m)
        return made, score, spent


def moves_of(part: Table, values: Values) -> tuple[Tensor, Tensor]:
    """(m,) the feature and (n, m) the value of each single move; also some ways along each range
    where the budget is a distance."""
    threat, start = part.threat, part.start
    features: list[int] = []
    columns: list[Tensor] = []
    limit = threat.limit(start)
    for index in threat.spec.mutable:
        options = [each.expand(len(start)) for each in values[index]]
        feature = threat.spec.features[index]
        if threat.unit in ("l2", "l1", "linf") and not feature.levels:
            low, high = feature.ends
            reach = (limit.clamp(max=1) * (high - low)).clamp(max=high - low)
            if feature.kind == "integer":
                reach = reach.floor()  # what rounds away from the budget cannot be paid
            for share in _SHARES:
                options += [start[:, index] + sign * share * reach for sign in (1, -1)]
        features += [index] * len(options)
        columns += options
    to = torch.stack(columns, 1) if columns else start.new_empty(len(start), 0)
    return torch.tensor(features, dtype=torch.int64), to


def rank_moves(gain: Tensor, price: Tensor, order: Order) -> Tensor:
    """(n, m) the moves, best first: by score, or by what a unit of price gains over the worst."""
    if order == "score":
        return gain.argsort(dim=1, descending=True, stable=True)
    tried = torch.isfinite(gain)
    worst = torch.where(tried, gain, torch.inf).amin(1, keepdim=True)
    floor = _FREE * price.amax(1, keepdim=True).clamp_min(1e-12)
    rate = torch.where(tried, (gain - worst) / (price + floor), -torch.inf)
    return rate.argsort(dim=1, descending=True, stable=True)


def pick(states: Tensor, scores: Tensor, width: int) -> Tensor:
    """The `width` best of states (n, c, f) by scores (n, c), no two with the same score."""
    top, at = scores.topk(min(4 * width, scores.shape[1]), dim=1)
    twin = torch.zeros_like(top, dtype=torch.bool)
    twin[:, 1:] = top[:, 1:] == top[:, :-1]
    top = torch.where(twin, -torch.inf, top)
    at = at.gather(1, top.topk(min(width, top.shape[1]), dim=1).indices)
    return states.gather(1, at[..., None].expand(-1, -1, states.shape[2]))


def _trim(search: _Search, values: Values) -> None:
    """Undo or cheapen each change as long as the row still wins; then undo one for another that
    costs less, since a rule may have been mended at the wrong end."""
    part = search.part
    mutable = torch.tensor(part.threat.spec.mutable)
    feature, to = moves_of(part, values)
    feature, to = torch.cat([mutable, feature]), torch.cat([part.start[:, mutable], to], 1)
    search.open(part.threat.limit(part.start))
    for swap in (False, True, False):
        search.alive = search.score > 0
        for _ in range(2 * len(mutable)):
            if not bool(search.alive.any()):
                break
            before = search.price.clone()
            states = search.best[:, None]
            if swap:
                undone = torch.eye(part.start.shape[1], dtype=torch.bool)[mutable]
                states = torch.where(undone, part.start[:, None], states)
            search.try_moves(states, feature, to)
            search.alive &= search.price < before
