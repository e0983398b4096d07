"""Best-first and beam search over priced moves, from scores alone: the finisher for tables.

Gradients and rounding overstate how sturdy a classifier of tables is: whole numbers, levels and
rules leave steps too coarse to follow a slope. A search over the moves themselves does not mind.
"""

from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from buckler.attacks.enumerate import dearest
from buckler.attacks.frontier import Frontier
from buckler.attacks.moves import SHARES, Order, moves_of, pick, plan, rank_moves
from buckler.attacks.rows import Table, Values, grid_values, table
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats.features.repair import repair
from buckler.threats.features.threat import BALLS

_TOGETHER = 60_000  # rows that stand in memory at once
_RISING = (1 / 16, 1 / 4, 1.0)  # of the money: what is won for little is asked about first


@dataclass(frozen=True)
class PriceSearch:
    """Every single move, then the best of them together, then a beam; what won is trimmed.

    A move sets one feature to one value; what rules tie to it follows (`repair`). Greedy over a
    graph of costs is Kireev et al. 2023 (arXiv:2206.12715); deviations: all rows of a block search
    side by side, moves are ranked once by what they gain alone, and the first states are the moves'
    own prefixes in that order (and, in a ball, a step along all their slopes at once), so that the
    beam starts where most of the budget is spent. Under a budget in money, small parts of it are
    spent first, and what has won looks on for less.

    Args:
        width: states a row that are carried on together (1: greedy).
        depth: rounds of the beam.
        tries: moves a state tries in a round: half of them those that gained most alone, half those
            that gained most for their price.
        points: values tried along a range; beside them the shares 1, 1/2, 1/4 and 1/10 of a
            distance budget either way.
        values: instead of those of the range: `split_values` for trees.
        trim: then undo or cheapen each move of a winning row while it still wins.
    """

    width: int = 3
    depth: int = 8
    tries: int = 24
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
        moves = sum(map(len, values)) + 2 * len(SHARES) * len(spec.mutable)
        raw, objective = every.start.clone(), every.ask(torch.arange(len(x)), every.start)
        left = (objective <= 0).nonzero()[:, 0]
        for block in left.split(max(1, _TOGETHER // max(1, moves))):
            if not len(block):  # no row at all is left
                break
            found, score = self._block(every.take(block), objective[block], values)
            better = score > objective[block]
            raw[block[better]] = found[better]
        return every.sent(raw)

    def _block(self, part: Table, base: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        """(n, features) and (n,): the best raw rows found and their objective."""
        search = Frontier(part)
        feature, to, probes = moves_of(part, values)
        if not len(feature):
            return search.best, search.score
        tried, made = [], []
        for some in (slice(0, probes), slice(probes, None)):
            tried.append(search.try_moves(part.start[:, None], feature[some], to[:, some]))
            if probes:  # what a step along the slopes wins needs no more questions
                gains = torch.cat([each[1] for each in tried], 2)[:, 0]
                known = gains.shape[1]
                plans = plan(part, base, feature[:known], to[:, :known], gains)
                made.append((plans, search.judge(plans)))
        single, gain, price = (torch.cat(each, 2) for each in zip(*tried, strict=True))
        # Squares of lengths add up, lengths do not.
        price = price.square() if part.threat.unit == "l2" else price
        ranks = [rank_moves(gain[:, 0], price[:, 0], order) for order in get_args(Order)]
        half = self.tries // 2
        rank = torch.cat([ranks[0][:, :half], ranks[1][:, : self.tries - half]], 1)
        money = part.threat.unit == "money"
        ceiling = torch.minimum(part.threat.limit(part.start), dearest(part.threat))
        for share in _RISING if money else (1.0,):
            # What is won for less needs no more: a row goes on only below the price it has.
            search.open(ceiling * share if share < 1 else part.threat.limit(part.start))
            cheap = gain[:, 0]
            if money:
                cheap = torch.where(price[:, 0] <= search.cap[:, None], cheap, -torch.inf)
            begun = [self._prefixes(search, feature, to, each) for each in ranks]
            states = torch.cat([single[:, 0], *(each for each, _ in (*made, *begun))], 1)
            scores = torch.cat([cheap, *(each for _, each in (*made, *begun))], 1)
            self._beam(search, states, scores, feature[rank], to.gather(1, rank))
        if self.trim and money:
            _trim(search, values)
        return search.best, search.score

    def _beam(
        self, search: Frontier, states: Tensor, scores: Tensor, feature: Tensor, to: Tensor
    ) -> None:
        """Carry the best states on, round by round; a row that has not gained stops."""
        for _ in range(self.depth):
            if not bool(search.alive.any()):
                return
            score, price = search.score.clone(), search.price.clone()
            beam = pick(states, scores, self.width)
            tried = to[:, None].expand(-1, beam.shape[1], -1)
            fit = search.part.threat.unit in BALLS
            made, found, _ = search.try_moves(beam, feature, tried, fit)
            states, scores = made.flatten(1, 2), found.flatten(1, 2)
            search.alive &= (search.score > score) | (search.price < price)

    def _prefixes(
        self, search: Frontier, feature: Tensor, to: Tensor, rank: Tensor
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


def _trim(search: Frontier, values: Values) -> None:
    """Undo or cheapen each change as long as the row still wins; then undo one for another that
    costs less, since a rule may have been mended at the wrong end."""
    part = search.part
    mutable = torch.tensor(part.threat.spec.mutable)
    feature, to, _ = moves_of(part, values)
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
