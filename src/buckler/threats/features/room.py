"""The box of all that a budget lets each feature alone do: around every row that can be sent."""

import math

import torch
from torch import Tensor

from buckler.threats.features import expression
from buckler.threats.features.legal import snap
from buckler.threats.features.spec import FeatureSpec
from buckler.threats.features.threat import ROUNDING, FeatureThreat

_WIDER = 2e-6  # relative: more than what is forgiven where values are compared


def box(threat: FeatureThreat, x: Tensor) -> tuple[Tensor, Tensor]:
    """low and high, (n, width) float64 both, inclusive: no row that the attacker may send instead
    of x (n, width) lies outside.

    Each feature is given the whole budget, and rules are not looked at: the box is wider than the
    threat, but for L∞ and numbers without rules.
    """
    spec, start = threat.spec, threat.spec.decode(x)
    low, high = start.clone(), start.clone()
    limit = threat.limit(start) * (1 + 2 * ROUNDING) + 2e-7
    _numbers(threat, start, limit, low, high)
    possible = [_levels(threat, start, limit, index, low, high) for index in spec.levelled]
    for index, tree in spec.formulas:
        for row in range(len(x)):
            ranges = {
                name: (float(low[row, at]), float(high[row, at]))
                for at, name in enumerate(spec.names)
            }
            least, most = expression.bounds(tree, ranges)
            size = _WIDER * max(abs(least), abs(most)) if math.isfinite(least + most) else 0.0
            low[row, index] = min(float(low[row, index]), least - size)
            high[row, index] = max(float(high[row, index]), most + size)
    return _columns(spec, start, low, high, dict(zip(spec.levelled, possible, strict=True)))


def _numbers(
    threat: FeatureThreat, start: Tensor, limit: Tensor, low: Tensor, high: Tensor
) -> None:
    """The features without levels; `low` and `high` are changed."""
    wide = threat.spec.numeric
    before, most = start[:, wide.at], limit[:, None]
    if threat.unit == "money":
        left = (most - wide.fee).clamp(min=-1.0)
        up, down = (
            torch.where(
                left < 0,
                torch.zeros_like(left),
                torch.where(rate > 0, left / rate.clamp_min(1e-300), torch.inf),
            )
            for rate in (wide.rise, wide.fall)
        )
    else:
        whole_way = torch.where(most >= 1, torch.inf, 0.0).expand_as(before)
        up = whole_way if threat.unit == "changes" else most * (wide.high - wide.low)
        down = up
    up, down = (torch.where(wide.whole, (way + 1e-9).floor(), way) for way in (up, down))
    size = _WIDER * before.abs()
    ends_low, ends_high = (end - _WIDER * end.abs() for end in (wide.low, -wide.high))
    top = torch.minimum(before + up + size * (up > 0), -ends_high)
    bottom = torch.maximum(before - down - size * (down > 0), ends_low)
    low[:, wide.at] = torch.where(wide.up, before, torch.minimum(before, bottom))
    high[:, wide.at] = torch.where(wide.down, before, torch.maximum(before, top))


def _levels(
    threat: FeatureThreat, start: Tensor, limit: Tensor, index: int, low: Tensor, high: Tensor
) -> Tensor:
    """(n, levels) bool: which of a feature's levels can be paid for alone; `low` and `high` are
    changed."""
    values = threat.spec.features[index].values
    found = []
    for value in values:
        raw = start.clone()
        raw[:, index] = value
        may = snap(threat.spec, start, raw)[:, index] == value
        may &= threat.spent(start, raw) <= limit
        found.append(may)
    possible = torch.stack(found, 1)
    low[:, index] = torch.minimum(start[:, index], torch.where(possible, values, torch.inf).amin(1))
    high[:, index] = torch.maximum(
        start[:, index], torch.where(possible, values, -torch.inf).amax(1)
    )
    return possible


def _columns(
    spec: FeatureSpec, start: Tensor, low: Tensor, high: Tensor, possible: dict[int, Tensor]
) -> tuple[Tensor, Tensor]:
    """The ends of features as those of the classifier's columns."""
    lows, highs = [], []
    for index, feature in enumerate(spec.features):
        if not feature.onehot:
            lows.append(low[:, index : index + 1])
            highs.append(high[:, index : index + 1])
            continue
        own = torch.nn.functional.one_hot(start[:, index].long(), len(feature.levels)).bool()
        others = possible.get(index, own) & ~own
        moved = others.any(1, keepdim=True)
        lows.append((own & ~moved).double())
        highs.append((own | others).double())
    return torch.cat(lows, 1), torch.cat(highs, 1)
