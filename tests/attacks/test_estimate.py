"""Estimated gradients against exact ones, their cost, and attacks that lean on them."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from buckler import draws
from buckler.attacks import PGD
from buckler.attacks.estimate import Estimated, Estimating, content_keys, signs
from buckler.errors import UsageError
from buckler.models import Counted, EstimatorClassifier
from buckler.testing import check_attack
from buckler.threats import LpBall
from tests.attacks.exact_linear import exact_linear, inputs, radius

WEIGHT = draws.normal(7, torch.arange(12), 0, (3,)).double()


def blind(x: Tensor) -> Tensor:
    """Linear, and without a gradient: NumPy in between."""
    assert not torch.is_grad_enabled(), "a black box needs no graph"
    return torch.from_numpy(x.detach().flatten(1).numpy() @ WEIGHT.numpy())


def gradient_of(model: Estimated, x: Tensor, v: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad((model(x) * v).sum(), x)[0]


def points(n: int, shape: tuple[int, ...] = (12,)) -> Tensor:
    return draws.uniform(3, torch.arange(n), 0, shape).double()


@pytest.mark.parametrize("kind", ["spsa", "nes"])
def test_on_a_linear_model_it_tends_to_the_gradient(kind: str) -> None:
    """2,000 directions in 12 dimensions: an error of about √(12 / 2000) = 8 %."""
    x, v = points(6), draws.normal(1, torch.arange(6), 0, (3,)).double()
    exact = v @ WEIGHT.T
    with torch.no_grad():
        assert torch.equal(Estimated(blind, kind=kind)(x), blind(x)), "forward is the model"
    found = gradient_of(Estimated(blind, 4000, kind=kind), x, v)
    error = (found - exact).norm(dim=1) / exact.norm(dim=1)
    assert bool((error < 0.2).all())
    few = gradient_of(Estimated(blind, 40, kind=kind), x, v)
    assert bool(((few * exact).sum(1) > 0).all()), "even a rough estimate points uphill"
    assert float((few - exact).norm()) > 2 * float((found - exact).norm())


@pytest.mark.parametrize("kind", ["spsa", "nes"])
@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_one_dimension_is_exact_even_at_the_wall(kind: str, at: float) -> None:
    x = torch.full((4, 1), at, dtype=torch.float64)
    model = Estimated(lambda z: z.detach() * torch.tensor([3.0, -1.0]), 4, 0.01, kind, (0.0, 1.0))
    z = x.clone().requires_grad_(True)
    grad = torch.autograd.grad(model(z)[:, 0].sum(), z)[0]
    assert torch.allclose(grad, torch.full_like(x, 3.0), rtol=1e-6)


@pytest.mark.parametrize("kind", ["spsa", "nes"])
def test_probes_stay_in_the_box(kind: str) -> None:
    seen = []

    def watched(x: Tensor) -> Tensor:
        seen.append(x)
        return blind(x)

    x = torch.cat([torch.zeros(1, 12), torch.ones(1, 12)]).double()
    gradient_of(Estimated(watched, 20, 0.1, kind, (0.0, 1.0)), x, torch.ones(2, 3).double())
    every = torch.cat(seen)
    assert float(every.min()) >= 0
    assert float(every.max()) <= 1


def test_queries_are_exact() -> None:
    model = Counted(blind)
    gradient_of(Estimated(model, 30), points(5), torch.ones(5, 3).double())
    assert (model.forwards, model.backwards) == (5 * 31, 0)
    model = Counted(blind)
    with torch.no_grad():
        Estimated(model, 30)(points(5))
    assert model.forwards == 5


@pytest.mark.parametrize("kind", ["spsa", "nes"])
def test_a_row_does_not_feel_its_batch(kind: str) -> None:
    """Libraries that estimate the gradient of the batch's summed loss add the others' noise."""
    x, v = points(9, (3, 100, 100)), draws.normal(1, torch.arange(9), 0, (3,)).double()
    weight = draws.normal(2, torch.arange(3), 0, (30_000,)).double()

    def wide(z: Tensor) -> Tensor:
        return torch.stack([(z.flatten(1) * row).sum(1) for row in weight], 1)

    model = Estimated(wide, 50, kind=kind)  # more values than fit into one forward
    whole = gradient_of(model, x, v)
    for row in (0, 4, 8):
        alone = gradient_of(model, x[row : row + 1], v[row : row + 1])
        assert torch.allclose(alone[0], whole[row], rtol=1e-9, atol=1e-9)
    louder = v.clone()
    louder[0] *= 1e6
    assert torch.equal(gradient_of(model, x, louder)[1:], whole[1:])
    other = gradient_of(Estimated(wide, 50, kind=kind, seed=1), x[:1], v[:1])
    assert not torch.allclose(other[0], whole[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_keys_are_of_the_content(dtype: torch.dtype) -> None:
    x = torch.rand(50, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    keys = content_keys(x)
    assert len(keys.unique()) == 50
    assert torch.equal(content_keys(x.flip(0)), keys.flip(0))
    moved = x.clone()
    moved[:, 1, 2] = torch.nextafter(moved[:, 1, 2].float(), torch.tensor(2.0)).to(dtype)
    if dtype != torch.float16:
        assert not bool((content_keys(moved) == keys).any())


def test_signs_are_fair_and_unrelated() -> None:
    """Means and correlations over 20,000 draws: 5 standard deviations, once in a million seeds."""
    drawn = signs(0, torch.arange(20_000), 0, (2, 25))
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    flat = drawn.flatten(1)
    related = flat.T @ flat / len(flat) - torch.eye(50)
    assert float(related.abs().max()) < 5 / 20_000**0.5
    assert float(flat.mean(0).abs().max()) < 5 / 20_000**0.5
    assert torch.equal(signs(0, torch.arange(3), 0, (1, 25))[:, 0], drawn[:3, 0])


def test_pgd_by_estimates_on_a_linear_model() -> None:
    model = exact_linear((5, 6), 3)
    x, y, _ = inputs(20, (5, 6), model)
    exact = radius(model, x, y, "linf")

    def scores(z: Tensor) -> Tensor:
        return torch.from_numpy(model(z.detach()).numpy().copy())

    attack = Estimating(PGD(steps=20, loss="margin"), 60)
    below, above = LpBall("linf", 0.99 * exact), LpBall("linf", 1.3 * exact)
    x_adv = attack(scores, x, y, below)
    assert bool(below.contains(x, x_adv).all())
    assert (model(x_adv).argmax(1) == y).all()
    x_adv = attack(scores, x, y, above)
    assert bool(above.contains(x, x_adv).all())
    assert (model(x_adv).argmax(1) != y).double().mean() >= 0.9


def test_what_a_row_that_is_not_won_costs() -> None:
    model = exact_linear((5, 6), 3)
    x, y, _ = inputs(4, (5, 6), model)
    counted = Counted(model)
    Estimating(PGD(steps=7), 10)(counted, x, y, LpBall("linf", 1e-9))
    assert counted.forwards == 4 * (7 * 11 + 1)


def test_a_forest_can_be_climbed() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((200, 6)).astype(np.float32)
    y = (x[:, 0] > 0.5).astype(int)
    model = EstimatorClassifier(RandomForestClassifier(30, random_state=0).fit(x, y))
    some, right = torch.from_numpy(x[:20]), torch.from_numpy(y[:20])
    threat = LpBall("linf", 0.45)
    x_adv = Estimating(PGD(steps=10, loss="margin"), 40, sigma=0.2)(model, some, right, threat)
    assert bool(threat.contains(some, x_adv).all())
    assert (model(x_adv).argmax(1) != right).double().mean() >= 0.5


def test_contract() -> None:
    attack = Estimating(PGD(steps=3), 10)
    check_attack(attack, LpBall("linf", 0.1))
    check_attack(Estimating(PGD(steps=3), 10, kind="nes"), LpBall("l2", 40.0, (0.0, 255.0)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"queries_per_gradient": 0}, r"even queries_per_gradient >= 2 .*Got queries.*=0"),
        ({"queries_per_gradient": 5}, "queries_per_gradient=5"),
        ({"sigma": 0.0}, r"sigma > 0\. Got .*sigma=0\.0"),
        ({"kind": "zoo"}, r"kind must be one of spsa, nes\. Got 'zoo'"),
    ],
)
def test_impossible_parameters_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Estimated(blind, **settings)
    with pytest.raises(UsageError, match=sentence):
        Estimating(PGD(), **settings)
