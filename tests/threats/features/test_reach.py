"""Where a budget lets each column go, against trying every value from every value."""

import pytest
import torch

from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Price
from buckler.threats.features.legal import legal
from tests.threats.features import shop

BUDGETS = {
    "money": (0.0, 0.2, 0.35, 0.6, 1.0, 2.4, 5.0),
    "l2": (0.0, 0.1, 0.2, 0.5, 1.2, 2**0.5),
    "l1": (0.1, 0.34, 2.0),
    "linf": (0.1, 0.4, 1.0),
    "changes": (0.0, 1.0),
}


def tried(feature, threat):
    """The ways that some change of the one feature goes, of all there are."""
    low, high = feature.ends
    if feature.levels:
        values = feature.values
    else:
        values = torch.arange(low, high + 1).double()
    pairs = torch.cartesian_prod(values, values)[:, :, None]
    start, raw = pairs[:, 0], pairs[:, 1]
    fine = legal(threat.spec, start, raw) & threat.affordable(start, raw)
    up, down = bool((fine & (raw > start)[:, 0]).any()), bool((fine & (raw < start)[:, 0]).any())
    if feature.kind == "category":
        return "both" if up or down else "none"
    return {(True, True): "both", (True, False): "up", (False, True): "down"}.get(
        (up, down), "none"
    )


@pytest.mark.parametrize(
    ("unit", "budget"), [(unit, each) for unit, every in BUDGETS.items() for each in every]
)
def test_the_ways_are_those_that_some_change_goes(unit, budget):
    for feature in shop.SPEC.features:
        if feature.derived is None and feature.kind != "real":
            threat = FeatureThreat(FeatureSpec((feature,)), budget, unit)
            assert threat.reaches == (tried(feature, threat),), feature.name


def test_real_numbers_move_for_anything_but_nothing_or_a_fee():
    fee = Feature("fee", high=1.0, low=0.0, price=Price(change=1.0))
    slope = Feature("slope", high=1.0, low=0.0, price=Price(up=5.0))
    spec = FeatureSpec((fee, slope))
    assert FeatureThreat(spec, 0.5).reaches == ("none", "both")
    assert FeatureThreat(spec, 0.0).reaches == ("none", "down")
    assert FeatureThreat(spec, 0.0, "l2").reaches == ("none", "none")
    assert FeatureThreat(spec, torch.tensor([0.0, 1.0])).reaches == ("both", "both")


def test_what_is_derived_goes_where_anything_it_is_made_of_goes():
    assert FeatureThreat(shop.SPEC, 0.35).reaches[-1] == "both"  # mails go up
    assert FeatureThreat(shop.without("mails", "age"), 9.0).reaches[-1] == "none"


def test_columns_that_cannot_move_a_step_have_no_range():
    spec = FeatureSpec((Feature("flag", "integer", 0, 1), Feature("count", "integer", 0, 10)))
    like = torch.zeros(1)
    assert FeatureThreat(spec, 0.5, "l2").ranges(like).tolist() == [0.0, 10.0]
    assert FeatureThreat(spec, 1.0, "l2").ranges(like).tolist() == [1.0, 10.0]
