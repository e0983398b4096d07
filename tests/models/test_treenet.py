"""Boosters as arrays: the same answers, through a file, without their library."""

import pytest
import torch
from safetensors.torch import load, save

from buckler.harden import BoostingRecipe, harden_boosting
from buckler.models import build_module
from buckler.models.treenet import FACTORY, TreeNet
from buckler.threats.features import FeatureThreat
from tests.threats.features import shop


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_the_arrays_answer_as_the_booster_does_and_survive_a_file(library):
    pytest.importorskip(library)
    x = shop.rows(300, seed=9)
    y = (x[:, 0] / 250 + x[:, 1] / 3 + 2 * x[:, 9] > 2.5).long()
    threat = FeatureThreat(shop.SPEC, 1.0)
    recipe = BoostingRecipe(library, rounds=9, open_rounds=9, monotone=False)
    model = harden_boosting(x, y, threat, recipe)
    net = TreeNet.of(model, x.shape[1], threshold=0.4)
    logits = model(x)
    over = logits[:, 1] - logits[:, 0] - 0.4
    assert torch.allclose(net(x)[:, 1] - net(x)[:, 0], over, atol=1e-5)
    other = build_module(FACTORY)
    other.load_state_dict(load(save({k: v.contiguous() for k, v in net.state_dict().items()})))
    assert torch.equal(other(x), net(x))
    assert torch.equal(net(x[:0]), torch.zeros(0, 2))
