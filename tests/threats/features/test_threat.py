"""The threat against the second opinion, and against money and distances counted by hand."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from buckler import draws
from buckler.errors import UsageError
from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Price, Rule
from buckler.threats.features.legal import legal
from buckler.threats.features.repair import repair
from buckler.threats.features.validate import validate
from tests.threats.features import shop

BUDGETS = [
    FeatureThreat(shop.SPEC, 3.0),
    FeatureThreat(shop.SPEC, 1e4, profit=True),
    FeatureThreat(shop.SPEC, 0.6, "l2"),
    FeatureThreat(shop.SPEC, 1.0, "l1"),
    FeatureThreat(shop.SPEC, 0.4, "linf"),
    FeatureThreat(shop.SPEC, 2, "changes"),
]
each = pytest.mark.parametrize("threat", BUDGETS, ids=str)


def scattered(x: Tensor, seed: int) -> Tensor:
    """Rows near x in any way at all: values of other rows, values that are none, wrong derived."""
    ids = torch.arange(len(x))
    u = draws.uniform(seed, ids, 0, (3, x.shape[1])).unbind(1)
    other = x[(u[0] * len(x)).long(), torch.arange(x.shape[1])]
    moved = torch.where(u[1] < 0.2, other, x)
    moved = torch.where(u[2] < 0.03, moved + 0.5, moved)
    raw = shop.SPEC.decode(moved)
    raw[::2, 7] = (raw[::2, 2] / (1 + raw[::2, 1])).float().double()
    return torch.where(u[2][:, :1] < 0.5, shop.SPEC.encode(raw, like=x), moved)


@each
def test_both_opinions_agree(threat: FeatureThreat) -> None:
    x = shop.rows(300)
    x = x.repeat(4, 1)
    x_adv = scattered(x, 1)
    second = [not wrong for wrong in validate(threat, x, x_adv)]
    assert threat.contains(x, x_adv).tolist() == second
    assert 20 < sum(second) - int((x == x_adv).all(1).sum()) < 1100


@each
def test_what_it_makes_is_inside(threat: FeatureThreat) -> None:
    x = shop.rows(150)
    ids = torch.arange(len(x))
    for made in (threat.random_point(x, 0, ids, 1), threat.project(x, scattered(x, 2))):
        assert validate(threat, x, made) == [[]] * len(x)
        assert threat.contains(x, made).all()
        assert (made != x).any(1).float().mean() > 0.3
    assert torch.equal(threat.project(x, x), x)
    alone = threat.take(torch.tensor([5])).random_point(x[5:6], 0, ids[5:6], 1)
    assert torch.equal(alone, threat.random_point(x, 0, ids, 1)[5:6])
    assert len(threat.random_point(x[:0], 0, ids[:0], 1)) == 0


def change(**values: float) -> tuple[Tensor, Tensor]:
    """A row with $10 at stake, and the same with other raw values."""
    raw = torch.tensor([[10.0, 4, 1, 0.5, 0, 0, 0.5, 0.2]], dtype=torch.float64)
    after = raw.clone()
    for name, value in values.items():
        after[0, shop.SPEC.names.index(name)] = value
    after[0, 7] = (after[0, 2] / (1 + after[0, 1])).float().double()
    like = torch.empty(0)
    return shop.SPEC.encode(raw, like), shop.SPEC.encode(after, like)


@pytest.mark.parametrize(
    ("values", "money", "l2"),
    [
        ({}, 0.0, 0.0),
        ({"age": 7}, 1.5, 3 / 9),
        ({"age": 2}, 4.0, 2 / 9),
        ({"mails": 3}, 0.45, 2 / 3),
        ({"income": 0.7}, 3.0, 0.5),
        ({"income": 0.1}, 0.0, 0.5),
        ({"device": 2}, 0.25, 2**0.5),
        ({"device": 1, "income": 0.1}, 2.5, 2.25**0.5),
        ({"paid": 1}, 4.0, 2**0.5),
        ({"share": 0.25}, 0.25, 0.25),
        ({"age": 7, "mails": 3}, 1.95, (1 / 9 + 4 / 9) ** 0.5),
    ],
)
def test_money_and_distance(values: dict[str, float], money: float, l2: float) -> None:
    x, x_adv = change(**values)
    dollars, ball = FeatureThreat(shop.SPEC, 100.0), FeatureThreat(shop.SPEC, 1.0, "l2")
    assert float(dollars.distance(x, x_adv)) == pytest.approx(money)
    assert float(ball.distance(x, x_adv)) == pytest.approx(l2)
    changes = replace(ball, unit="changes")
    assert float(changes.distance(x, x_adv)) == len(values)
    assert bool(replace(dollars, budget=money).contains(x, x_adv))
    assert bool(replace(dollars, budget=money * 0.99).contains(x, x_adv)) == (money == 0)


def test_profit_is_gain_beyond_cost() -> None:
    x, x_adv = change(age=4, share=1.0, paid=1)  # 4.50 for a gain of 10
    threat = FeatureThreat(shop.SPEC, torch.inf, profit=True)
    assert threat.contains(x, x_adv).all()
    poor, poor_adv = x.clone(), x_adv.clone()
    poor[:, 0] = poor_adv[:, 0] = 4.5
    assert not threat.contains(poor, poor_adv).any()  # gain equals cost: nothing is left
    assert validate(threat, poor, poor_adv) == [["costs 4.5 and gains 4.5: no profit"]]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"amount": 11.0}, "amount: must not change"),
        ({"mails": 0}, "mails: may only go up"),
        ({"mails": 3, "age": 2}, "breaks rule mails"),
        ({"device": 1}, "breaks rule if device == 'ios'"),
        ({"age": 10}, "age: 10.0 is outside 0 to 9"),
        ({"age": 4.5}, "age: 4.5 is not whole"),
        ({"income": 0.6}, "income: 0.6.* is not one of its levels"),
        ({"paid": 1}, "spends 4 money of 3"),
    ],
)
def test_the_sentence_of_each_refusal(values: dict[str, float], sentence: str) -> None:
    x, x_adv = change(**values)
    (wrong,) = validate(BUDGETS[0], x, x_adv)
    assert any(re.search(sentence, said) for said in wrong), wrong
    assert not BUDGETS[0].contains(x, x_adv).any()


def test_derived_and_one_hot_columns_are_not_set_by_hand() -> None:
    x, x_adv = change(age=5)
    x_adv[:, -1] = 0.2
    assert "but computed 0.1666" in validate(BUDGETS[0], x, x_adv)[0][0]
    assert not BUDGETS[0].contains(x, x_adv).any()
    two = x.clone()
    two[:, 4:6] = 1.0
    assert "exactly one level" in validate(BUDGETS[0], x, two)[0][0]
    assert not BUDGETS[0].contains(x, two).any()


def test_repair_mends_linear_rules_and_keeps_what_was_asked() -> None:
    spec = FeatureSpec(
        (
            Feature("dots", "integer", 0, 9),
            Feature("com", "integer", 0, 3),
            Feature("length", "integer", 0, 100),
            Feature("share", "real", 0.0, 1.0),
            Feature("host", "integer", 0, 50, change="none"),
        ),
        (
            Rule("dots + 4 * com <= length"),
            Rule("dots > 0", given="com > 0"),
            Rule("share > 0", given="dots > 5"),
            Rule("host <= length"),
        ),
    )
    grid = itertools.product(range(10), range(4), (0, 7, 30), (0.0, 0.5))
    start = torch.tensor([[0.0, 0, 10, 0, 8]] * 240, dtype=torch.float64)
    asked = torch.tensor([[*each, 8] for each in grid], dtype=torch.float64)
    made = repair(spec, start, asked)
    assert legal(spec, start, made).all()
    moved = asked[:, 0] != 0
    assert (made[moved, 0] == asked[moved, 0]).all()  # length gives way, not what was asked
    mended = made[(asked[:, 1] > 0) & (asked[:, 0] == 0)]
    assert (mended[:, 0] >= 1).all()


def test_an_implication_is_mended_at_either_end() -> None:
    start = torch.tensor([[10.0, 4, 1, 0.5, 0, 0, 0.5, 0.2]], dtype=torch.float64)
    asked = start.clone()
    asked[0, 4] = 1.0  # ios, with an income above 0.4: paid must be yes, or the income lower
    first, second = (repair(shop.SPEC, start, asked, back=back) for back in (False, True))
    assert (first[0, 3], first[0, 4], first[0, 5]) == (0.5, 1, 1)
    assert (second[0, 3], second[0, 4], second[0, 5]) == (pytest.approx(0.1), 1, 0)


def test_the_predicate_has_the_last_word() -> None:
    def even(table: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(table["a"] % 2 == 0)

    spec = FeatureSpec((Feature("a", "integer", 0, 9, price=Price()),), predicate=even)
    threat = FeatureThreat(spec, 1.0)
    x, x_adv = torch.full((10, 1), 4.0), torch.arange(10.0)[:, None]
    assert threat.contains(x, x_adv).tolist() == [True, False] * 5
    assert [not wrong for wrong in validate(threat, x, x_adv)] == [True, False] * 5
    broken = replace(threat, spec=replace(spec, predicate=lambda table: True))
    with pytest.raises(UsageError, match="predicate must return one bool a row"):
        broken.contains(x, x_adv)


def test_a_row_that_breaks_a_rule_may_stay_as_it_is() -> None:
    spec = FeatureSpec(
        (Feature("a", "integer", 0, 9), Feature("b", "integer", 0, 9)), (Rule("a <= b"),)
    )
    threat = FeatureThreat(spec, 2, "changes")
    x = torch.tensor([[5.0, 1.0]] * 3)
    x_adv = torch.tensor([[5.0, 1.0], [4.0, 1.0], [1.0, 1.0]])
    assert threat.contains(x, x_adv).tolist() == [True, False, True]


def test_the_threat_as_others_see_it() -> None:
    threat = BUDGETS[2]
    assert str(threat) == "l2 0.6"
    assert str(BUDGETS[1]) == "$1e+04 at a profit"
    assert threat.unbounded(shop.rows(1)).budget == torch.inf
    assert threat.to_dict()["mutable"] == ["age", "mails", "income", "device", "paid", "share"]
    grad = torch.tensor([[1.0, 2, 0, 0, 0, 0, 0, 0, -1, 5]])
    assert threat.steepest(grad)[0, 0] == 0  # immutable
    assert threat.steepest(grad)[0, 9] == 0  # derived
    assert threat.steepest(grad)[0, 1] == pytest.approx(9 * 18 / (18**2 + 1) ** 0.5)
