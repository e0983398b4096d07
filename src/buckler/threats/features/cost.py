"""What a change costs, in money, and how far it goes."""

import torch
from torch import Tensor

from buckler.threats.features.feature import Feature, Price
from buckler.threats.features.spec import FeatureSpec


def cost(spec: FeatureSpec, start: Tensor, raw: Tensor) -> Tensor:
    """(n,) money: the sum over the features the attacker set; derived columns follow for free."""
    wide = spec.numeric
    move = raw[:, wide.at] - start[:, wide.at]
    paid = wide.rise * move.clamp(min=0) + wide.fall * (-move).clamp(min=0) + wide.fee * (move != 0)
    total: Tensor = paid.sum(1)
    for index in spec.levelled:
        total = total + _levels(spec.features[index], start[:, index], raw[:, index])
    return total


def _levels(feature: Feature, before: Tensor, after: Tensor) -> Tensor:
    """(n,) money for a change of one feature with levels."""
    if feature.kind == "category":
        return pairs(feature)[before.long(), after.long()]
    tag = feature.price or Price()
    move = (feature.ranks(after) - feature.ranks(before)).double()
    paid = tag.up * move.clamp(min=0) + tag.down * (-move).clamp(min=0) + tag.change
    return torch.where(after != before, paid, torch.zeros_like(paid))


def pairs(feature: Feature) -> Tensor:
    """(levels, levels) money from each level of a category to each other; 0 on the diagonal."""
    tag = feature.price or Price()
    names = [str(level) for level in feature.levels]
    row = [tag.to.get(name, tag.change) for name in names]
    paid = torch.tensor([row] * len(names), dtype=torch.float64)
    for (before, after), money in tag.pairs.items():
        paid[names.index(before), names.index(after)] = money
    return paid.fill_diagonal_(0.0)


def distance(spec: FeatureSpec, norm: str, start: Tensor, raw: Tensor) -> Tensor:
    """(n,) "l2", "l1" or "linf" of the changes as shares of the ranges, or how many "changes".

    An ordinal's range is its levels; a category that changes counts as two one-hot columns that
    move by 1, whatever the classifier sees of it. Derived columns follow and do not count.
    """
    if norm == "changes":
        return (raw != start)[:, list(spec.mutable)].sum(1).double()
    wide = spec.numeric
    width = wide.high - wide.low
    share = (raw - start)[:, wide.at].abs() / torch.where(width > 0, width, 1.0)
    parts, times = [share], [torch.ones(share.shape[1])]
    for index in spec.levelled:
        feature, before, after = spec.features[index], start[:, index], raw[:, index]
        named = feature.kind == "category"
        if named:
            moved = (after != before).double()
        else:
            ranks = (feature.ranks(after) - feature.ranks(before)).abs()
            moved = ranks.double() / (len(feature.levels) - 1)
        parts.append(moved[:, None])
        times.append(torch.tensor([1.0 + named]))
    share, weight = torch.cat(parts, 1), torch.cat(times)
    if not share.shape[1]:
        return share.sum(1)
    if norm == "linf":
        return share.amax(1)
    if norm == "l1":
        return (share * weight).sum(1)
    return (share.square() * weight).sum(1).sqrt()
