"""Where a budget lets each column go at all: what hardening may lean on, and what it may not."""

from typing import Literal

import torch

from buckler.threats.features import expression
from buckler.threats.features.cost import pairs
from buckler.threats.features.feature import Feature, Price
from buckler.threats.features.spec import FeatureSpec

Reach = Literal["none", "up", "down", "both"]
_SLACK = 1 + 1e-5  # what the threat forgives, too
_HAIR = 1e-12  # a real number's smallest step: more than nothing
_APART = {"l2": 2**0.5, "l1": 2.0, "linf": 1.0}  # from one level of a category to another


def reaches(spec: FeatureSpec, unit: str, budget: float) -> tuple[Reach, ...]:
    """For each feature the ways in which the smallest possible change of it alone can be paid.

    A binary column under an L2 budget of 0.5 of the ranges goes nowhere; a phone number that costs
    $10 to get and $0.10 to lose goes down under $1.50. A derived column goes both ways where
    anything it is made of goes anywhere. Rules are not looked at: they only take ways away.
    """
    found: dict[str, Reach] = {each.name: _alone(each, unit, budget) for each in spec.features}
    for index, tree in spec.formulas:
        made_of = [found[name] for name in expression.names(tree)]
        found[spec.names[index]] = "both" if any(way != "none" for way in made_of) else "none"
    return tuple(found[name] for name in spec.names)


def _alone(feature: Feature, unit: str, budget: float) -> Reach:
    if not feature.mutable:
        return "none"
    limit = budget * _SLACK
    if feature.kind == "category":
        return "both" if _category(feature, unit) <= limit else "none"
    up, down = _step(feature, unit)
    up_paid = up <= limit and feature.change != "down"
    down_paid = down <= limit and feature.change != "up"
    if up_paid and down_paid:
        return "both"
    return "up" if up_paid else "down" if down_paid else "none"


def _category(feature: Feature, unit: str) -> float:
    """The least that a change of level spends."""
    if unit == "changes":
        return 1.0
    if unit != "money":
        return _APART[unit]
    paid = pairs(feature).fill_diagonal_(torch.inf)
    return float(paid.min())


def _step(feature: Feature, unit: str) -> tuple[float, float]:
    """What the smallest step up and down spends."""
    if unit == "changes":
        return (1.0, 1.0)
    if unit == "money":
        tag = feature.price or Price()
        unit_step = _HAIR if feature.kind == "real" else 1.0
        return (tag.change + unit_step * tag.up, tag.change + unit_step * tag.down)
    low, high = feature.ends
    if feature.kind == "real" or low == high:
        return (_HAIR, _HAIR)
    share = 1 / (len(feature.levels) - 1) if feature.levels else 1 / (high - low)
    return (share, share)
