"""Training for a proof: the schedule against closed forms, the start against the bounds' width."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from buckler.certify.boxes import Box
from buckler.certify.interval import Interval
from buckler.certify.proof import certified_accuracy
from buckler.errors import UsageError
from buckler.harden import RECIPES, RobustValidation, harden
from buckler.harden.certified import (
    Certified,
    _imbalance,
    _looseness,
    narrow_start,
    shi_initialise,
)
from buckler.threats import LpBall
from tests.conftest import blobs

THREAT = LpBall("linf", 0.1)


def linear() -> nn.Linear:
    layer = nn.Linear(4, 3)
    generator = torch.Generator().manual_seed(0)
    layer.weight.data = torch.randn(3, 4, generator=generator)
    layer.bias.data = torch.randn(3, generator=generator)
    return layer


def rows_in_the_middle() -> tuple[torch.Tensor, torch.Tensor]:
    """Far from the box's walls, whose clipping would narrow the bounds."""
    generator = torch.Generator().manual_seed(1)
    return 0.5 + 0.1 * torch.rand(6, 4, generator=generator), torch.arange(6) % 3


def net(depth: int = 2, width: int = 64) -> nn.Sequential:
    """Linear layers with ReLU on 64 inputs, 3 logits."""
    sizes = [64, *[width] * (depth - 1)]
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], 3))


@pytest.mark.parametrize("warm", [0.25, 0.5, 1.0])
def test_the_loss_is_the_mix_that_warm_says(warm: float) -> None:
    """On a linear layer the worst difference is exact: z_j − z_y + eps·|w_j − w_y|₁."""
    layer, (x, y) = linear(), rows_in_the_middle()
    objective = Certified(THREAT, kappa=0.2, widen=1.5)
    weight, logits = layer.weight, layer(x)
    apart = (weight[None] - weight[y][:, None]).abs().sum(2)
    worst = logits - logits.gather(1, y[:, None]) + warm * 1.5 * 0.1 * apart
    k = 1 - 0.8 * warm
    expected = k * functional.cross_entropy(logits, y)
    expected = expected + (1 - k) * functional.cross_entropy(worst, y)
    got = objective.loss(layer, x, x, y, warm)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    got.backward()
    (wanted,) = torch.autograd.grad(expected, weight)
    assert weight.grad is not None
    assert torch.allclose(weight.grad, wanted, atol=1e-6)


def test_at_the_very_start_the_loss_is_the_clean_one() -> None:
    layer, (x, y) = linear(), rows_in_the_middle()
    got = Certified(THREAT).loss(layer, x, x, y, 1e-7)
    assert got.item() == pytest.approx(functional.cross_entropy(layer(x), y).item(), rel=1e-5)


def test_the_bounds_stop_at_the_box() -> None:
    """At x = 1 only the lower half of the ball exists."""
    layer, (x, y) = linear(), rows_in_the_middle()
    x = torch.ones_like(x)
    wide = Certified(LpBall("linf", 0.1, (-9.0, 9.0)), kappa=0.0).loss(layer, x, x, y, 1.0)
    boxed = Certified(THREAT, kappa=0.0).loss(layer, x, x, y, 1.0)
    assert boxed.item() < wide.item()
    moved = LpBall("linf", 0.05, (-9.0, 9.0))  # the same interval [0.9, 1] around its middle
    other = Certified(moved, kappa=0.0).loss(layer, x - 0.05, x - 0.05, y, 1.0)
    assert boxed.item() == pytest.approx(other.item(), rel=1e-5)


def test_the_regularisers_are_what_the_paper_says() -> None:
    """Widths 0.8 and 0.4 after an input's 0.2: ratios ¼ and ½, of which ½ is allowed. Middles of
    sure units 3 and −1: means in the ratio ⅓, deviations from the mean (0.5) ¼·25 and ¼·9."""
    low = torch.zeros(4)
    boxes = [Box(low, low + 0.8), Box(low, low + 0.4)]
    assert _looseness(low, low + 0.2, boxes).item() == pytest.approx((0.5 + 0) / 2, rel=1e-5)
    middle, reach = torch.tensor([3.0, -1.0, 0.0, 0.0]), torch.tensor([0.1, 0.1, 0.5, 0.5])
    [box] = [Box(middle - reach, middle + reach)]
    expected = (0.5 - 1 / 3) / 0.5 + (0.5 - 9 / 25) / 0.5
    assert _imbalance([box]).item() == pytest.approx(expected, rel=1e-5)
    one_sided = Box(torch.ones(3), 2 * torch.ones(3))
    assert _imbalance([one_sided]).item() == 0


def test_the_regularisers_fade_with_the_warm_up() -> None:
    x, y = blobs(12)
    model = net()
    plain, balanced = (Certified(THREAT, balance=balance) for balance in (0.0, 0.5))
    extra = [
        balanced.loss(model, x, x, y, warm).item() - plain.loss(model, x, x, y, warm).item()
        for warm in (0.1, 0.9, 1.0)
    ]
    assert extra[0] > extra[1] > extra[2] == 0


@pytest.mark.parametrize(
    "values",
    [{"kappa": 1.0}, {"kappa": -0.1}, {"widen": 0.0}, {"balance": -1.0}],
    ids=lambda values: next(iter(values)),
)
def test_settings_that_cannot_work_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="needs 0 <= kappa < 1, widen > 0 and balance >= 0"):
        Certified(THREAT, **values)


def test_another_norm_is_refused() -> None:
    with pytest.raises(UsageError, match=r"needs an L∞ threat\. Got l2"):
        Certified(LpBall("l2", 0.5))


def test_training_certifies_rows_that_plain_training_does_not() -> None:
    """Three kinds of noisy images, a second each: the same net, start and number of steps."""
    x, y = blobs(120)
    held = {}
    for name, objective in (("plain", None), ("certified", Certified(THREAT))):
        model = net()
        shi_initialise(model, 0)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        for step in range(60):
            warm = min(1.0, (step + 1) / 30)
            if objective is None:
                loss = functional.cross_entropy(model(x), y)
            else:
                loss = objective.loss(model, x, x, y, warm)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        fresh, labels = blobs(200, seed=9)
        threat = dataclasses.replace(THREAT, eps=0.08)
        held[name] = float(certified_accuracy(model.eval(), fresh, labels, threat).float().mean())
    assert held["certified"] > 0.7
    assert held["plain"] < held["certified"] - 0.3


def test_the_start_is_normal_with_the_papers_deviation_and_no_bias() -> None:
    model = nn.Sequential(nn.Conv2d(8, 64, 3), nn.BatchNorm2d(64), nn.Flatten(), nn.Linear(64, 500))
    norm = model[1].weight.clone()
    shi_initialise(model, 3)
    for layer, fan_in in ((model[0], 72), (model[3], 64)):
        expected = math.sqrt(2 * math.pi) / fan_in
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)  # 1 in 10⁹ misses
        assert abs(layer.weight.mean().item()) < 0.05 * expected
        assert not layer.bias.any()
    assert torch.equal(model[1].weight, norm)


def test_the_start_is_a_function_of_the_seed_alone() -> None:
    first, again, other = net(), net(), net()
    state = torch.random.get_rng_state()
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        shi_initialise(model, seed)
    assert torch.equal(state, torch.random.get_rng_state())
    weights = [[p.detach().clone() for p in m.parameters()] for m in (first, again, other)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not torch.equal(weights[0][0], weights[2][0])
    assert not torch.equal(weights[0][0][:3], weights[0][2])  # layers do not share draws


def test_bounds_keep_their_width_from_this_start_and_explode_from_the_usual_one() -> None:
    """Five layers of 256: √(2 / n) widens them by about √(n / π) / √2 each, this by 1."""
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    grown = {}
    for name in ("shi", "usual"):
        model = net(depth=5, width=256)
        shi_initialise(model, 0)
        if name == "usual":
            for layer in model:
                if isinstance(layer, nn.Linear):
                    layer.weight.data *= math.sqrt(layer.in_features / math.pi)
        low, high = Interval(model).bounds(x - 0.01, x + 0.01)
        grown[name] = (high - low).mean().item() / 0.02
    assert 0.3 < grown["shi"] < 3
    assert grown["usual"] > 1000


def test_the_loop_certifies_and_a_deep_net_gets_the_narrow_start(dataset) -> None:
    """Through the recipe: warm-up, checkpoint from after it, and its own start."""
    fit, select = dataset["fit"], dataset["select"]
    made = dataclasses.replace(RECIPES["certified"](40, THREAT), lr=1e-2, batch_size=64)
    validate = RobustValidation(select.x, select.y, THREAT, steps=3)
    found = harden(net(), fit.x, fit.y, made, validate)
    held = certified_accuracy(found.model, select.x, select.y, THREAT)
    assert float(held.float().mean()) > 0.5
    shallow = net()
    before = shallow[1].weight.clone()
    narrow_start(shallow, 0)
    assert torch.equal(shallow[1].weight, before)
    deep = nn.Sequential(nn.Flatten(), *(nn.Linear(64, 64) for _ in range(6)))
    narrow_start(deep, 0)
    assert float(deep[1].weight.std()) == pytest.approx((2 * torch.pi) ** 0.5 / 64, rel=0.05)


def test_attacked_points_stand_in_place_of_the_clean_ones() -> None:
    """One step on a linear layer is exact: the points lie in the ball's corner."""
    layer, (x, y) = linear(), rows_in_the_middle()
    objective = Certified(THREAT, kappa=0.9, steps=3, step_size=1.0)
    x_adv = objective.craft(layer, x, y, 0, torch.arange(len(x)), 1.0)
    assert (x_adv - x).abs().max().item() == pytest.approx(0.1, rel=1e-4)
    near = functional.cross_entropy(layer(x_adv), y)
    assert near > functional.cross_entropy(layer(x), y)
    bounds = Certified(THREAT, kappa=0.0).loss(layer, x, x, y, 1.0)
    got = objective.loss(layer, x, x_adv, y, 1.0)
    assert got.item() == pytest.approx(0.9 * near.item() + 0.1 * bounds.item(), rel=1e-5)
    assert torch.equal(Certified(THREAT).craft(layer, x, y, 0, torch.arange(len(x)), 1.0), x)
