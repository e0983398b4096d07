"""Nets of tables trained against evasion: only caught rows move, and they stay within reach."""

import pytest
import torch
from torch import nn

from buckler import draws
from buckler.attacks import PriceSearch
from buckler.harden import Evaded, EvadedValidation, Recipe, harden
from buckler.harden.objectives import Standard
from buckler.harden.tables import climbed
from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Price

SPEC = FeatureSpec(
    (
        Feature("share", "real", 0.0, 1.0, price=Price(up=1.0, down=1.0)),
        Feature("count", "integer", 0, 10, price=Price(up=0.1, down=0.1)),
        Feature("flag", "integer", 0, 1, price=Price(change=5.0)),
    )
)
THREAT = FeatureThreat(SPEC, 0.5, "l2")


def rows(count=400, seed=0):
    """The share tells the classes apart and is cheap to move; the flag a little less, and dear."""
    u = draws.uniform(seed, torch.arange(count), 0, (4,))
    y = (u[:, 0] < 0.5).long()
    flag = torch.where(u[:, 1] < 0.75, y, 1 - y).float()
    share = (0.25 + 0.5 * y + 0.2 * (u[:, 2] - 0.5)).clamp(0, 1)
    return torch.stack([share, (u[:, 3] * 11).floor(), flag], 1), y


def net(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))


@pytest.mark.parametrize("threat", [THREAT, FeatureThreat(SPEC, 1.0)], ids=str)
def test_only_caught_rows_are_moved_and_they_stay_within_reach(threat):
    x, y = rows(64)
    x_adv = Evaded(threat=threat, steps=3).craft(net(), x, y, 0, torch.arange(64), 1.0)
    assert torch.equal(x_adv[y == 0], x[y == 0])
    assert (x_adv[y == 1] != x[y == 1]).any()
    assert torch.equal(x_adv[:, 2], x[:, 2])  # a flag cannot move half way
    assert bool((threat.spent(SPEC.decode(x), SPEC.decode(x_adv)) <= threat.budget + 1e-5).all())
    assert torch.equal(x_adv[:, 1], x_adv[:, 1].round())


def test_the_budget_rises_with_the_warm_up():
    x, y = rows(64)
    x_adv = Evaded(threat=THREAT, steps=3).craft(net(), x, y, 0, torch.arange(64), 0.2)
    assert float(THREAT.distance(x, x_adv).max()) <= 0.1 + 1e-5


def test_climbing_finds_the_corner_of_a_linear_model():
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0, 0], [1.0, 0, 0]]))
    x = torch.tensor([[0.9, 5.0, 1.0]])
    found = climbed(model, x, torch.tensor([1]), THREAT, 20, 0.25, 0, torch.arange(1))
    assert found[0, 0] == pytest.approx(0.4, abs=0.02)


def test_a_trained_net_holds_where_an_ordinary_one_falls():
    x, y = rows()
    select = rows(200, seed=1)
    validate = EvadedValidation(*select, THREAT)
    plain = Recipe("plain", Standard(), epochs=12, lr=2e-2, chosen_by="clean")
    recipe = Recipe("evaded", Evaded(threat=THREAT), epochs=12, lr=2e-2)
    held = []
    for each in (plain, recipe):
        model = harden(net(), x, y, each, validate).model
        found = validate(model)
        caught = select[1] == 1
        x_adv = PriceSearch()(model, select[0][caught], select[1][caught], THREAT)
        held.append(float((model(x_adv).argmax(1) == 1).float().mean()))
        assert found.robust <= found.clean
        assert not found.constant
    assert held[0] < 0.4
    assert held[1] > 0.6
