"""Training for masks: what is hidden, which pair is taken, and that it pays."""

from itertools import combinations_with_replacement

import pytest
import torch
from torch import nn
from torch.nn import functional

from buckler.certify.masks import Masked, covering
from buckler.data import load
from buckler.errors import UsageError
from buckler.harden import MaskedValidation, Occluded, harden
from buckler.harden.objectives import Standard
from buckler.harden.recipes import Recipe, occluded
from buckler.models.nets import digits_cnn
from buckler.threats import Patch

THREAT = Patch((2, 2))


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)
        return nn.Sequential(*layers).eval().requires_grad_(False)


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 0.5 + torch.rand(20, 1, 8, 8, generator=generator) / 2, torch.arange(20) % 3


def test_each_row_is_hidden_by_two_masks_of_the_certificate() -> None:
    x, y = rows()
    before = x.clone()
    hidden = covering(THREAT, x, 3)
    unions = {
        tuple((hidden[i] | hidden[j]).flatten().tolist())
        for i, j in combinations_with_replacement(range(len(hidden)), 2)
    }
    for tries in (1, 3):
        objective = Occluded(threat=THREAT, per_side=3, fill=0.25, tries=tries)
        found = objective.craft(net(), x, y, 7, torch.arange(20), 1.0)
        changed = (found != x)[:, 0]
        assert all(tuple(row.flatten().tolist()) in unions for row in changed)
        assert bool((found[:, 0][changed] == 0.25).all())
        assert len({tuple(row.flatten().tolist()) for row in changed}) > 5
        again = objective.craft(net(), x[5:6], y[5:6], 7, torch.tensor([5]), 1.0)
        assert torch.equal(again[0], found[5])
    assert torch.equal(x, before)


def test_of_several_pairs_the_worst_is_taken() -> None:
    x, y = rows()
    model = net()

    def loss(tries: int) -> torch.Tensor:
        objective = Occluded(threat=THREAT, per_side=3, tries=tries)
        found = objective.craft(model, x, y, 7, torch.arange(20), 1.0)
        return functional.cross_entropy(model(found), y, reduction="none")

    one, many = loss(1), loss(12)
    assert float((many - one).mean()) > 0.05
    assert not model.training
    with pytest.raises(UsageError, match="tries must be >= 1"):
        Occluded(threat=THREAT, tries=0)


def test_validation_is_what_the_certificate_says() -> None:
    x, y = rows()
    model = net()
    found = MaskedValidation(x, y, THREAT, per_side=3, most=20)(model)
    held = Masked(model, THREAT, per_side=3).certified(x) == y
    assert found.robust == float(held.float().mean())
    assert found.clean == float((model(x).argmax(1) == y).float().mean())


@pytest.mark.slow
def test_it_pays_on_digits() -> None:
    data = load("digits")
    fit, select, test = data["fit"], data["select"], data["test"]
    validate = MaskedValidation(select.x, select.y, THREAT, most=100)
    shares = []
    for recipe in (occluded(20, THREAT), Recipe("standard", Standard(), 20)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            fresh = digits_cnn()
        model = harden(fresh, fit.x, fit.y, recipe, validate).model
        held = Masked(model, THREAT).certified(test.x) == test.y
        shares.append(float(held.float().mean()))
    assert shares[0] > shares[1] + 0.1
