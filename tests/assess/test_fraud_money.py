"""Money at risk against sums done by hand."""

import math

import pytest
import torch

from buckler.assess.fraud import Exposure, measure, money_item, standing
from buckler.assess.fraud.exposure import paired_ratio
from buckler.assess.fraud.page import Side, write_page
from buckler.assess.fraud.recipes import by_feature, recipes
from buckler.assess.fraud.standing import error_rates, out_of_time
from buckler.attacks import Enumerate
from buckler.errors import DataError, UsageError
from buckler.models.alerts import Alerting
from buckler.testing import LinearModel
from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Price

SPEC = FeatureSpec(
    (
        Feature("limit", "real", 0.0, 1000.0, change="none"),
        Feature("device", "integer", 0, 1, price=Price(change=0.1)),
        Feature("phone", "integer", 0, 1, price=Price(up=10.0, down=0.1)),
    ),
    gain="limit",
)
# Fraud where device + 2 (1 - phone) > threshold: 0.5, 1.5 or 2.5 changes are needed.
MODEL = LinearModel(torch.tensor([[0.0, 0, 0], [0.0, 1, -2]]), torch.tensor([0.0, 2]))
X = torch.tensor([[100.0, 1, 0], [200, 0, 0], [300, 1, 1], [5, 1, 0], [400, 0, 1]])


def made(threshold: float = 0.5) -> Exposure:
    threat = FeatureThreat(SPEC, 20.0)
    return measure(
        "linear", Alerting(MODEL, threshold), X, threat, Enumerate(), weeks=2.0, share=0.5,
        segment=["a", "a", "b", "b", "b"], exact=True,
    )  # fmt: skip


def test_each_fraud_is_priced_by_its_cheapest_way():
    found = made()
    assert found.price == pytest.approx((10.1, 10.0, 0.1, 10.1, 0.0))
    assert found.changed == (("device", "phone"), ("phone",), ("device",), ("device", "phone"), ())
    assert found.gain == (100.0, 200.0, 300.0, 5.0, 400.0)
    assert found.invalid == 0


def test_money_is_the_sum_of_what_gets_through_and_pays():
    found = made()
    assert found.evaded(0.0).value == pytest.approx(400)  # of one week: / share 0.5 / weeks 2
    assert found.evaded(0.1).value == pytest.approx(700)
    assert found.evaded(10.0).value == pytest.approx(900)
    assert found.evaded(20.0).value == pytest.approx(1000)  # the fraud worth 5 does not pay
    assert found.kept(20.0).value == pytest.approx(1000 - 10.1 - 10.0 - 0.1)
    assert found.break_even().value == pytest.approx((1000 - 20.2) / 5)
    assert found.recall(20.0) == (1, 5)
    low, high = found.evaded(0.1).low, found.evaded(0.1).high
    assert low < 700 < high


def test_recipes_and_features_tell_what_is_changed():
    found = made()
    told = {each.segment: each for each in recipes(found)}
    assert told["a"].features == ("phone",)
    assert str(told["b"]) == "change device: $0.10 (1 of 2 evaded)"
    assert [(name, round(money.value)) for name, money in by_feature(found, 20.0)] == [
        ("device", 400), ("phone", 300),
    ]  # fmt: skip


def test_a_saved_exposure_comes_back(tmp_path):
    found = made(1.5)
    assert math.inf not in found.price
    found.save(tmp_path / "exposure.json")
    assert Exposure.load(tmp_path / "exposure.json") == found
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="must be an exposure"):
        Exposure.load(tmp_path / "other.json")


def test_the_gate_fails_on_a_rise_and_on_nothing_else():
    same, more = made(), made(2.5)  # a higher threshold catches less
    assert money_item(same, same).met
    item = money_item(more, same)
    assert not item.met
    assert item.value == pytest.approx(more.evaded(5.0).value / same.evaded(5.0).value - 1)
    assert item.value > 0.05
    assert money_item(same, more).value < 0
    assert paired_ratio(same, same, 5.0).high == 0
    with pytest.raises(DataError, match="looked up to"):
        money_item(same, same, budget=50.0)


def test_the_gate_wants_the_same_frauds():
    threat = FeatureThreat(SPEC, 20.0)
    other = measure("linear", Alerting(MODEL, 0.5), X[:2], threat, Enumerate(), weeks=1.0)
    with pytest.raises(DataError, match="different frauds"):
        money_item(made(), other)


def test_standing_is_told_at_the_base_rate():
    x = torch.cat([X, X])
    y = torch.tensor([1] * 5 + [0] * 5)
    found = standing(Alerting(MODEL, 1.5), x, y, base_rate=0.01, volume=1000.0)
    assert (found.recall.k, found.false_positives.k) == (3, 3)
    assert found.delayed == pytest.approx(1000 * 0.99 * 0.6)
    assert found.alerts == pytest.approx(1000 * 0.6)
    assert found.precision[0] == pytest.approx(0.01)
    assert found.precision[1] < 0.01 < found.precision[2]
    assert found.auc == 0.5


def test_models_that_say_fraud_to_all_are_named():
    y = torch.tensor([1, 1, 0, 0, 0])
    everything = standing(Alerting(MODEL, -9.0), X, y, base_rate=0.01, volume=10.0)
    assert everything.says_fraud
    assert "worth nothing" in str(everything)
    assert not standing(Alerting(MODEL, 2.5), X, y, base_rate=0.01, volume=10.0).says_fraud


def test_a_split_in_time_and_groups_that_hardening_moves():
    early, late = out_of_time([1, 2, 3, 2], 3)
    assert (early.tolist(), late.tolist()) == ([0, 1, 3], [2])
    with pytest.raises(DataError, match="from then on"):
        out_of_time([1, 2], 5)
    x, y = X.repeat(40, 1), torch.zeros(200, dtype=torch.int64)
    group = ["old", "young", "old", "young", "old"] * 40
    models = {"ordinary": Alerting(MODEL, 2.5), "hardened": Alerting(MODEL, 1.5)}
    found = {each["group"]: each["moved"] for each in error_rates(models, x, y, group)}
    assert found == {"old": False, "young": True}


def test_the_page_tells_all_of_it(tmp_path):
    y = torch.tensor([1, 1, 0, 0, 0])
    stood = standing(Alerting(MODEL, -9.0), X, y, base_rate=0.01, volume=10.0)
    sides = [Side(made(), stood, gap=(4, 1, 5)), Side(made(1.5), stood)]
    groups = error_rates({"a": Alerting(MODEL, 2.5), "b": Alerting(MODEL, 1.5)}, X, y, ["old"] * 5)
    path = write_page(
        "Applications", "buckler fraud", sides, tmp_path / "fraud.html",
        gate=money_item(made(1.5), made()), sensitive=groups,
    )  # fmt: skip
    text = path.read_text()
    for told in (
        "worth nothing", "change device: $0.10", "4 of 5 frauds stay", "Failed", "evaded a week",
        "good held up", "every row was tried",
    ):  # fmt: skip
        assert told in " ".join(text.split()), told
    assert "http" not in text.split("<h2>")[1]


def test_wrong_use_is_said():
    with pytest.raises(UsageError, match="in money"):
        measure("x", MODEL, X, FeatureThreat(SPEC, 0.5, "l2"), Enumerate(), weeks=1.0)
    with pytest.raises(UsageError, match="weeks > 0"):
        measure("x", MODEL, X, FeatureThreat(SPEC, 1.0), Enumerate(), weeks=0.0)
    with pytest.raises(UsageError, match="base rate in"):
        standing(MODEL, X, torch.tensor([1, 0, 0, 0, 0]), base_rate=1.0, volume=1.0)
