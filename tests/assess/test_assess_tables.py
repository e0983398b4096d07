"""Tables through the assessment: counted rows have passed two opinions."""

import pytest
import torch

from buckler.assess import assess, of_model
from buckler.assess import run as counting
from buckler.attacks import suites
from buckler.inputs import InputSpec
from buckler.testing import LinearModel
from buckler.threats.features import FeatureThreat
from tests.threats.features import shop

SPEC = InputSpec((10,), ("good", "fraud"), (-1.0, 999.0))


def model() -> LinearModel:
    weight = torch.tensor([[0.0, -0.3, -0.2, -2, 0, -0.5, 0, -1, -1, -1]])
    bias = torch.tensor([-4.0, 4.0])
    return LinearModel(torch.cat([-weight, weight]), bias).eval().requires_grad_(False)


def test_the_suite_for_tables_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = shop.rows(25), torch.ones(25, dtype=torch.int64)
    target = of_model(model(), SPEC, x)
    threat = FeatureThreat(shop.SPEC, 0.6)
    found = assess(target, x, y, threat, suites.tabular())
    rate = found.ledger.rates()["success"]
    assert 0 < rate.k < rate.n
    assert [each.attack for each in found.suite] == ["CAPGD", "PriceSearch"]
    assert found.threat["kind"] == "features"
    monkeypatch.setattr(counting, "validate", lambda threat, x, x_adv: [["no"]] * len(x))
    assert assess(target, x, y, threat, suites.tabular()).ledger.rates()["success"].k == 0
