"""Single moves on tables: which there are, what they promise, and what they promise together."""

from typing import Literal

import torch
from torch import Tensor

from buckler.attacks.rows import Table, Values
from buckler.threats.features.threat import BALLS

Order = Literal["score", "score per price"]
SHARES = (1.0, 0.5, 0.25, 0.1)  # of a distance budget, in one feature
_PROBE = 0.5  # the one of them that is tried first
_FREE = 1e-3  # of the dearest move: what a move that costs nothing is taken to cost
_REACHES = (0.5, 1.0, 2.0, 4.0)  # budgets that a plan asks for; it is drawn back into one


def moves_of(part: Table, values: Values) -> tuple[Tensor, Tensor, int]:
    """(m,) the feature and (n, m) the value of each single move; also some ways along each range
    where the budget is a distance. The first of them, as many as the last number says, are one way
    either way along each range: enough to know the slopes.
    """
    threat, start = part.threat, part.start
    features: list[int] = []
    columns: list[Tensor] = []
    probes: list[int] = []
    limit = threat.limit(start)
    for index in threat.spec.mutable:
        options = [each.expand(len(start)) for each in values[index]]
        feature = threat.spec.features[index]
        if threat.unit in BALLS and not feature.levels:
            low, high = feature.ends
            reach = (limit.clamp(max=1) * (high - low)).clamp(max=high - low)
            if feature.kind == "integer":
                reach = reach.floor()  # what rounds away from the budget cannot be paid
            for share in SHARES:
                if share == _PROBE:
                    probes += [len(columns) + len(options), len(columns) + len(options) + 1]
                options += [start[:, index] + sign * share * reach for sign in (1, -1)]
        features += [index] * len(options)
        columns += options
    to = torch.stack(columns, 1) if columns else start.new_empty(len(start), 0)
    order = torch.tensor(sorted(range(len(features)), key=lambda at: at not in probes))
    which = torch.tensor(features, dtype=torch.int64)
    return (which[order], to[:, order], len(probes)) if len(order) else (which, to, 0)


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


def plan(part: Table, base: Tensor, feature: Tensor, to: Tensor, gain: Tensor) -> Tensor:
    """(n, plans, features) raw rows that follow every single move's slope at once, in the steepest
    direction of the budget's norm: what gradient descent would do, from scores.

    Args:
        base: (n,) the objective of the start. gain: (n, m) that of each move.
    """
    spec, wide = part.threat.spec, part.threat.spec.numeric
    width = torch.zeros(len(spec.features), dtype=torch.float64)
    width[wide.at] = wide.high - wide.low
    move = (to - part.start[:, feature]) / width[feature].clamp_min(1e-12)
    useful = torch.isfinite(gain) & (move != 0) & (width[feature] > 0)
    slope = torch.where(useful, (gain - base[:, None]) / move.abs(), 0.0)
    column = feature.expand_as(slope)
    sides = []
    for sign in (1, -1):
        of_side = torch.where(move.sign() == sign, slope, 0.0)
        sides.append(torch.zeros_like(part.start).scatter_reduce(1, column, of_side, "amax"))
    way = torch.where(sides[0] >= sides[1], sides[0], -sides[1])
    if part.threat.unit == "linf":
        way = way.sign()
    way = way / torch.linalg.vector_norm(
        way, dim=1, keepdim=True, ord=torch.inf if part.threat.unit == "linf" else 2
    ).clamp_min(1e-12)
    reach = part.threat.limit(part.start).clamp(max=1.0)[:, None]
    made = [
        part.threat.fitted(part.start, part.start + times * reach * way * width)
        for times in _REACHES
    ]
    return torch.stack(made, 1)
