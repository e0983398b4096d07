"""Attacks on tables against brute force: nothing cheaper was missed, nothing outside was sent."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from torch import Tensor

from buckler import draws
from buckler.attacks import CAPGD, MOEVA, Enumerate, PriceSearch
from buckler.attacks.moeva import ranks, survivors
from buckler.attacks.rows import finite_values, split_values
from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models import Counted, EstimatorClassifier, XGBoostClassifier, split_points
from buckler.protocols import Attack, Classifier
from buckler.testing import LinearModel
from buckler.threats import Goal, LpBall
from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Price, Rule
from buckler.threats.features.validate import validate
from tests.threats.features import shop

FINITE = shop.without("share")
EVERY = [
    Enumerate(),
    PriceSearch(width=2, depth=3, tries=8),
    CAPGD(steps=4),
    MOEVA(population=8, generations=4),
]


def linear(seed: int = 0) -> LinearModel:
    """Fraud (1) for about half of the shop's rows."""
    weight = draws.normal(seed, torch.arange(1), 0, (10,)).double()
    weight = weight / torch.tensor([[500.0, 9, 3, 0.6, 1, 1, 1, 1, 1, 1]])
    x = shop.rows(200).double()
    bias = -(x @ weight[0]).median()[None]
    return LinearModel(torch.cat([-weight, weight]), torch.cat([-bias, bias]))


def boosted(seed: int = 0, trees: int = 8) -> EstimatorClassifier:
    x = shop.rows(400, seed=9)
    y = (linear(seed)(x.double()).argmax(1) ^ (x[:, 1] > 5).long()).numpy()
    model = GradientBoostingClassifier(n_estimators=trees, max_depth=3, random_state=0)
    return EstimatorClassifier(model.fit(x.numpy(), y))


def frauds(model: Classifier, count: int) -> tuple[Tensor, Tensor]:
    x = shop.rows(300, seed=5)
    x = x[model(x.double()).argmax(1) == 1][:count]
    return x, torch.ones(len(x), dtype=torch.int64)


def brute(
    model: Classifier, x: Tensor, threat: FeatureThreat, values: tuple[Tensor, ...]
) -> Tensor:
    """(n,) the least that a winning row spends, inf where there is none: every row there is."""
    spec = threat.spec
    least = []
    for row in x:
        start = spec.decode(row[None])[0]
        lists = [
            sorted({*values[index].tolist(), float(start[index])})
            if index in spec.mutable
            else [0.0]
            for index in range(len(spec.features))
        ]
        raw = torch.tensor(list(itertools.product(*lists)), dtype=torch.float64)
        fixed = [index for index in range(len(spec.features)) if index not in spec.mutable]
        raw[:, fixed] = start[fixed]
        if "ratio" in spec.names:
            at = [spec.names.index(name) for name in ("mails", "age", "ratio")]
            moved = (raw[:, at[:2]] != start[at[:2]]).any(1)
            fresh = (raw[:, at[0]] / (1 + raw[:, at[1]])).float().double()
            raw[moved, at[2]] = fresh[moved]
        every = spec.encode(raw, like=x)
        wins = model(every).argmax(1) == 0
        every = every[wins]
        kept = [not wrong for wrong in validate(threat, row.expand_as(every), every)]
        spent = threat.distance(row.expand_as(every), every)[torch.tensor(kept, dtype=torch.bool)]
        least.append(float(spent.min()) if len(spent) else torch.inf)
    return torch.tensor(least)


def spent(model: Classifier, x: Tensor, x_adv: Tensor, threat: FeatureThreat) -> Tensor:
    """(n,) what each row that wins spends, inf where it does not; all must be inside."""
    assert validate(threat, x, x_adv) == [[]] * len(x)
    assert threat.contains(x, x_adv).all()
    won = model(x_adv).argmax(1) == 0
    return torch.where(won, threat.distance(x, x_adv), torch.inf)


THREATS = [
    FeatureThreat(FINITE, 2.0),
    FeatureThreat(FINITE, torch.inf),
    FeatureThreat(FINITE, torch.inf, profit=True),
    FeatureThreat(FINITE, 1.6, "l2"),
    FeatureThreat(FINITE, 2, "changes"),
]


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("model", [linear(), boosted()], ids=["linear", "trees"])
def test_enumeration_finds_the_cheapest_there_is(model: Classifier, threat: FeatureThreat) -> None:
    x, y = frauds(model, 5)
    expected = brute(model, x, threat, finite_values(FINITE))
    found = spent(model, x, Enumerate()(model, x, y, threat), threat)
    assert torch.allclose(found, expected, atol=1e-5), (found, expected)
    order = torch.tensor([3, 0, 1, 2, 4])
    again = Enumerate()(model, x[order], y[order], threat.take(order))
    assert torch.equal(again, Enumerate()(model, x, y, threat)[order])


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("model", [linear(), boosted()], ids=["linear", "trees"])
def test_the_search_wins_nearly_what_can_be_won(model: Classifier, threat: FeatureThreat) -> None:
    x, y = frauds(model, 15)
    exact = spent(model, x, Enumerate()(model, x, y, threat), threat)
    counted = Counted(model)
    found = spent(model, x, PriceSearch()(counted, x, y, threat), threat)
    assert (found >= exact - 1e-5).all()  # cheaper than the cheapest would be a bug
    possible = torch.isfinite(exact)
    assert torch.isfinite(found).sum() >= 0.9 * possible.sum()
    assert counted.forwards < 400 * len(x)
    if threat.unit == "money" and bool(possible.any()):
        both = torch.isfinite(found)
        assert found[both].mean() <= 1.1 * exact[both].mean() + 0.05


def test_splits_make_real_features_finite(tmp_path: Path) -> None:
    """The cheapest evasion of a small ensemble equals the shortest way to any winning leaf."""
    import xgboost

    spec = FeatureSpec(
        (
            Feature("a", "real", 0.0, 1.0, price=Price(up=1.0, down=3.0)),
            Feature("b", "real", -2.0, 2.0, price=Price(change=0.2, up=0.5, down=0.5)),
            Feature("c", "integer", 0, 50, price=Price(up=0.05, down=0.1)),
            Feature("d", "real", change="none"),
        ),
        (Rule("c >= 3", name="at least three"),),
    )
    u = draws.uniform(3, torch.arange(300), 0, (4,))
    x = u * torch.tensor([1.0, 4.0, 48.0, 1.0]) + torch.tensor([0.0, -2.0, 3.0, 0.0])
    x[:, 2] = x[:, 2].floor()
    y = ((x[:, 0] > 0.4) & (x[:, 1] > -0.5) | (x[:, 2] > 30)).long()
    fitted = xgboost.XGBClassifier(n_estimators=4, max_depth=3, n_jobs=1).fit(x.numpy(), y.numpy())
    fitted.save_model(tmp_path / "model.json")
    model = XGBoostClassifier(tmp_path / "model.json", InputSpec((4,), ("good", "fraud"), (-9, 99)))
    splits = split_points(model, 4)
    values = split_values(spec, splits)
    threat = FeatureThreat(spec, 4.0)
    x = x[model(x).argmax(1) == 1][:12]
    ones = torch.ones(len(x), dtype=torch.int64)
    found = spent(model, x, Enumerate(values)(model, x, ones, threat), threat)
    for row, least in zip(x, found, strict=True):
        assert float(least) == pytest.approx(shortest(model, row, splits, threat), abs=2e-5)
    assert torch.isfinite(found).sum() >= 6
    searched = spent(model, x, PriceSearch(values=values)(model, x, ones, threat), threat)
    assert (searched >= found - 1e-5).all()
    assert torch.isfinite(searched).sum() >= torch.isfinite(found).sum() - 1


def shortest(
    model: Classifier, row: Tensor, splits: tuple[Tensor, ...], threat: FeatureThreat
) -> float:
    """By boxes: in each cell between splits the cheapest corner, its answer asked in the middle."""
    options = []
    for index in range(3):
        low, high = threat.spec.features[index].ends
        edges = [low, *[float(t) for t in splits[index] if low < t <= high], high + 1e-3]
        now, tag = float(row[index]), threat.spec.features[index].price or Price()
        each = []
        for left, right in itertools.pairwise(edges):
            if index == 2:  # whole numbers of [left, right)
                left, right = max(3, np.ceil(left)), min(50, np.ceil(right) - 1)
                if left > right:
                    continue
                to = float(min(max(now, left), right))
                inside = to
            else:
                inside = now if left <= now < right else (left + min(right, high)) / 2
                to = min(max(now, left), right)
            price = tag.up * max(0, to - now) + tag.down * max(0, now - to)
            each.append((price + (tag.change if abs(inside - now) > 0 else 0), inside))
        options.append(each)
    combos = list(itertools.product(*options))
    points = torch.tensor([[*[inside for _, inside in combo], float(row[3])] for combo in combos])
    wins = model(points).argmax(1) == 0
    prices = [sum(price for price, _ in combo) for combo in combos]
    least = min((price for price, win in zip(prices, wins, strict=True) if win), default=torch.inf)
    return least if least <= threat.budget + 1e-5 else torch.inf


def test_splits_of_forests() -> None:
    x = shop.rows(200)
    forest = RandomForestClassifier(3, max_depth=4, random_state=0)
    splits = split_points(EstimatorClassifier(forest.fit(x.numpy(), (x[:, 1] > 4).long())), 10)
    assert 0 < sum(map(len, splits)) < 50
    assert 4.5 in splits[1].tolist()
    with pytest.raises(UsageError, match="Got LinearModel"):
        split_points(linear(), 10)


def test_what_attacks_on_tables_refuse() -> None:
    model = linear()
    x, y = frauds(model, 3)
    for attack in EVERY:
        with pytest.raises(UsageError, match=f"{attack.name} needs a FeatureThreat"):
            attack(model, x, y, LpBall("l2", 1.0, (-1.0, 999.0)))
    with pytest.raises(UsageError, match="feature 'share' has values without end"):
        Enumerate()(model, x, y, FeatureThreat(shop.SPEC, 1.0))
    with pytest.raises(UsageError, match="more than 10 combinations"):
        Enumerate(most=10)(model, x, y, FeatureThreat(FINITE, 50.0))
    with pytest.raises(UsageError, match="PriceSearch needs width"):
        PriceSearch(width=0)
    with pytest.raises(UsageError, match="CAPGD needs steps"):
        CAPGD(steps=0)
    with pytest.raises(UsageError, match="loss must be one of"):
        CAPGD(loss="hinge")
    with pytest.raises(UsageError, match="MOEVA needs an even population"):
        MOEVA(population=5)
    with pytest.raises(UsageError, match="splits must be one a column, 10"):
        split_values(FINITE, (torch.zeros(1),))


@pytest.mark.parametrize("attack", EVERY, ids=lambda each: each.name)
def test_rows_do_not_feel_each_other(attack: Attack) -> None:
    model = linear()
    x, y = frauds(model, 9)
    threat = FeatureThreat(FINITE, torch.linspace(0, 3, 9))
    whole = attack(model, x, y, threat)
    assert torch.equal(whole[0], x[0])  # no budget, no change
    order = torch.tensor([4, 8, 1, 0, 2, 7, 3, 6, 5])
    assert torch.equal(
        attack(model, x[order], y[order], threat.take(order), rows=order), whole[order]
    )
    one = torch.tensor([4])
    alone = attack(model, x[one], y[one], threat.take(one), rows=one)
    assert torch.equal(alone, whole[4:5])
    assert attack(model, x[:0], y[:0], threat.take(torch.tensor([], dtype=torch.int64))).shape == (
        0,
        10,
    )
    targeted = threat.with_goal(Goal("targeted", torch.zeros(9, dtype=torch.int64)))
    assert torch.equal(attack(model, x, y, targeted), whole)


def test_won_rows_are_left_alone() -> None:
    model = linear()
    x = shop.rows(20)
    x = x[model(x.double()).argmax(1) == 0]
    y = torch.ones(len(x), dtype=torch.int64)
    for attack in EVERY:
        assert torch.equal(attack(model, x, y, THREATS[0]), x)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_gradients_and_genes_stay_inside_and_win_much(threat: FeatureThreat) -> None:
    model = linear()
    x, y = frauds(model, 15)
    exact = spent(model, x, Enumerate()(model, x, y, threat), threat)
    possible = torch.isfinite(exact)
    for attack, share in ((CAPGD(), 0.6), (MOEVA(population=16, generations=10), 0.5)):
        counted = Counted(model)
        found = spent(model, x, attack(counted, x, y, threat), threat)
        assert (found >= exact - 1e-5).all()
        assert torch.isfinite(found).sum() >= share * possible.sum(), attack.name
    assert counted.forwards <= len(x) * (16 * 11 + 1)


def test_gradients_pass_through_what_is_derived() -> None:
    """Only `ratio` counts, and only mails and age move it."""
    weight = torch.zeros(2, 10, dtype=torch.float64)
    weight[0, 9], bias = -20.0, torch.tensor([8.0, 0.0], dtype=torch.float64)
    model = LinearModel(weight, bias)
    x = shop.rows(60)
    x = x[(x[:, 9] > 0.45) & (x[:, 1] < 5)]
    y = torch.ones(len(x), dtype=torch.int64)
    threat = FeatureThreat(shop.SPEC, 1.0, "l2")
    found = spent(model, x, CAPGD(restarts=1)(model, x, y, threat), threat)
    assert len(x) > 3
    assert torch.isfinite(found).all()


def test_fronts_and_survivors() -> None:
    worth = torch.tensor([[[0.0, 2, 0], [1, 1, 0], [2, 0, 0], [2, 2, 0], [3, 3, 0], [1.5, 1.5, 0]]])
    assert ranks(worth.double()).tolist() == [[0, 0, 0, 2, 3, 1]]
    genes = torch.arange(6.0)[None, :, None]
    kept, _ = survivors(genes, worth.double(), 4)
    assert sorted(kept[0, :, 0].tolist()) == [0.0, 1.0, 2.0, 5.0]
