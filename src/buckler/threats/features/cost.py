"""What a change costs, in money, and how far it goes."""

import torch
from torch import Tensor

from buckler.threats.features.feature import Feature, Price
from buckler.threats.features.spec import FeatureSpec


def cost(spec: FeatureSpec, start: Tensor, raw: Tensor) -> Tensor:
    """(n,) money: the sum over the features the attacker set; derived columns follow for free."""
    each = [price(spec.features[i], start[:, i], raw[:, i]) for i in spec.mutable]
    return torch.stack(each).sum(0) if each else start.new_zeros(len(start))


def price(feature: Feature, before: Tensor, after: Tensor) -> Tensor:
    """Money for a change of one feature's raw values; the two broadcast."""
    tag = feature.price or Price()
    changed = after != before
    if feature.kind == "category":
        return pairs(feature)[before.long(), after.long()]
    if feature.levels:
        before = feature.ranks(before).double()
        after = feature.ranks(after).double()
    move = after - before
    paid = tag.up * move.clamp(min=0) + tag.down * (-move).clamp(min=0) + tag.change
    return torch.where(changed, paid, torch.zeros_like(paid))


def pairs(feature: Feature) -> Tensor:
    """(levels, levels) money from each level of a category to each other; 0 on the diagonal."""
    tag = feature.price or Price()
    names = [str(level) for level in feature.levels]
    row = [tag.to.get(name, tag.change) for name in names]
    paid = torch.tensor([row] * len(names), dtype=torch.float64)
    for (before, after), money in tag.pairs.items():
        paid[names.index(before), names.index(after)] = money
    return paid.fill_diagonal_(0.0)


def scaled(spec: FeatureSpec, start: Tensor, raw: Tensor) -> Tensor:
    """(n, mutable features) each change as a share of the feature's range; an ordinal's in levels.

    A category that changes counts 1, whatever the classifier sees of it.
    """
    parts = []
    for index in spec.mutable:
        feature, before, after = spec.features[index], start[:, index], raw[:, index]
        if feature.kind == "category":
            parts.append((after != before).double())
        elif feature.levels:
            ranks = feature.ranks(after) - feature.ranks(before)
            parts.append(ranks.double() / (len(feature.levels) - 1))
        else:
            low, high = feature.ends
            parts.append((after - before) / ((high - low) or 1.0))
    return torch.stack(parts, 1) if parts else start.new_zeros(len(start), 0)


def distance(spec: FeatureSpec, norm: str, start: Tensor, raw: Tensor) -> Tensor:
    """(n,) "l2", "l1" or "linf" of the scaled changes (a changed category has two one-hot columns
    that move by 1), or how many "changes" were made."""
    if norm == "changes":
        return (raw != start)[:, list(spec.mutable)].sum(1).double()
    share = scaled(spec, start, raw).abs()
    if not share.shape[1]:
        return share.sum(1)
    if norm == "linf":
        return share.amax(1)
    named = torch.tensor([1.0 + (spec.features[i].kind == "category") for i in spec.mutable])
    if norm == "l1":
        return (share * named).sum(1)
    return (share.square() * named).sum(1).sqrt()
