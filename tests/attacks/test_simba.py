"""SimBA: its bases, its count of queries, and the corner it must reach on a linear model."""

import pytest
import torch
from torch import Tensor

from buckler.attacks.simba import SimBA, waves
from buckler.errors import UsageError
from buckler.models import Counted
from buckler.testing import check_attack
from buckler.threats import Goal, LpBall, PixelBudget
from tests.attacks.exact_linear import CASES, Counting, exact_linear, inputs, radius

EACH = Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0]))


@pytest.mark.parametrize(
    ("attack", "threat", "shape"),
    [
        (SimBA(30), LpBall("linf", 0.1), (1, 5, 6)),
        (SimBA(30), LpBall("l2", 0.4, goal=EACH), (3, 4, 7)),
        (SimBA(30), LpBall("l1", 3.0, (0.0, 2.0)), (6, 5)),
        (SimBA(30, basis="pixel"), LpBall("linf", 0.1, goal=Goal("guarded")), (24,)),
        (SimBA(30, basis="pixel"), LpBall("l2", 0.4), (1, 5, 6)),
        (SimBA(90, basis="pixel", step_size=1.0), LpBall("l1", 0.4), (3, 2, 2)),
    ],
    ids=str,
)
def test_contract(attack: SimBA, threat: LpBall, shape: tuple[int, ...]) -> None:
    check_attack(attack, threat, shape=shape)


@pytest.mark.parametrize(("shape", "classes"), [case for case in CASES if case[1] == 2])
def test_pixel_by_pixel_it_reaches_the_best_corner_of_a_linear_model(
    shape: tuple[int, ...], classes: int
) -> None:
    """With two classes every value has one right way: up or down, two queries at most each."""
    model = exact_linear(shape, classes)
    x, y, _ = inputs(20, shape, model)
    exact, attack = radius(model, x, y, "linf"), SimBA(1 + 2 * 30, 1.0, "pixel")
    below, above = LpBall("linf", 0.999 * exact), LpBall("linf", 1.001 * exact)
    x_adv = attack(model, x, y, below)
    assert (model(x_adv).argmax(1) == y).all()
    assert torch.allclose((x_adv - x).abs(), 0.999 * exact.reshape(-1, *[1] * len(shape)))
    x_adv = attack(model, x, y, above)
    assert (model(x_adv).argmax(1) != y).all()
    assert bool(above.contains(x, x_adv).all())


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_it_uses_the_ball(norm: str, basis: str) -> None:
    """A row that is not won ends on the sphere, with a better margin the more queries it has."""
    model = exact_linear((5, 6), 3)
    x, y, _ = inputs(10, (5, 6), model)
    threat = LpBall(norm, 0.001)
    values = []
    for queries in (5, 50, 300):
        x_adv = SimBA(queries, basis=basis, coarse=1.0)(model, x, y, threat)
        assert bool(threat.contains(x, x_adv).all())
        values.append(threat.goal.objective(model(x_adv), y))
    assert bool((values[0] <= values[1]).all())
    assert bool((values[1] <= values[2]).all())
    assert float(values[0].mean()) < float(values[2].mean()) < 0
    assert torch.allclose(threat.distance(x, x_adv), torch.tensor(0.001).double(), rtol=1e-4)


def test_waves_are_an_orthonormal_basis() -> None:
    image = (2, 3, 5)
    basis = waves(torch.arange(30), image, image, "l2")
    assert torch.allclose(basis @ basis.T, torch.eye(30).double(), atol=1e-12)
    assert torch.allclose(basis[0], torch.cat([torch.ones(15), torch.zeros(15)]).double() / 15**0.5)
    lowest = waves(torch.arange(8), (2, 2, 2), image, "linf").reshape(8, 2, 3, 5)
    assert torch.allclose(lowest.flatten(1).abs().amax(1), torch.ones(8).double())
    assert not bool(lowest[:4, 1].any())
    assert not bool(lowest[4:, 0].any())
    assert torch.equal(lowest[0, 0], torch.ones(3, 5).double())
    sizes = waves(torch.arange(8), (2, 2, 2), image, "l1").abs().sum(1)
    assert torch.allclose(sizes, torch.ones(8).double())


@pytest.mark.parametrize("basis", ["pixel", "dct"])
@pytest.mark.parametrize("queries", [1, 2, 3, 37, 200])
def test_exactly_as_many_queries_as_asked(queries: int, basis: str) -> None:
    """200 queries are more than the basis has directions: it is shuffled and walked again."""
    model = Counting(exact_linear((5, 6), 3))
    x, y, _ = inputs(9, (5, 6), model)
    model.rows = model.calls = 0
    x_adv = SimBA(queries, basis=basis)(model, x, y, LpBall("linf", 1e-9))
    assert (model.rows, model.calls) == (9 * queries, queries)
    SimBA(queries)(Counted(model, limit=queries), x[:1], y[:1], LpBall("linf", 1e-9))
    assert queries > 1 or torch.equal(x_adv, x)


def test_down_is_asked_only_where_up_failed() -> None:
    """x₁ wants up and x₀ wants down: 1 + 1 + 2 queries and both are set; a fifth starts anew."""

    def model(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] - x[:, 1] + 9, 0 * x[:, 0]], 1)

    seen = Counting(model)
    x, y, threat = torch.full((1, 2), 0.5), torch.tensor([0]), LpBall("linf", 0.1)
    x_adv = SimBA(4, 1.0, "pixel")(seen, x, y, threat)
    assert x_adv[0].tolist() == pytest.approx([0.4, 0.6])
    moved = [tuple((point - 0.5).sign().int().flatten().tolist()) for point in seen.seen]
    assert moved in (
        [(0, 0), (1, 0), (-1, 0), (-1, 1)],
        [(0, 0), (0, 1), (1, 1), (-1, 1)],
    )


def test_each_row_has_its_own_order_and_each_direction_once_a_round() -> None:
    order = SimBA(queries=24, basis="pixel")._order(torch.arange(50), (1, 3, 4), 0)
    assert order.shape == (50, 24)
    for part in (order[:, :12], order[:, 12:]):
        assert torch.equal(part.sort(1).values, torch.arange(12).expand(50, 12))
    assert len({tuple(row) for row in order[:, :12].tolist()}) == 50
    assert not torch.equal(order[:, :12], order[:, 12:])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SimBA(queries=0), r"queries >= 1, step_size > 0 .*Got queries=0"),
        (lambda: SimBA(step_size=0.0), r"step_size=0\.0"),
        (lambda: SimBA(coarse=1.5), r"0 < coarse <= 1\. Got .*coarse=1\.5"),
        (lambda: SimBA(basis="haar"), r"basis must be one of pixel, dct\. Got 'haar'"),
        (
            lambda: SimBA()(torch.nn.Flatten(), torch.rand(1, 4), torch.zeros(1), PixelBudget(1)),
            r"SimBA needs an L-infinity, L2 or L1 ball\. Got 1 pixel",
        ),
    ],
)
def test_wrong_use_is_refused(make, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make()


def test_a_graph_of_x_is_not_followed() -> None:
    """Thousands of queries on one graph would fill the memory."""
    model, (x, y, _) = exact_linear((5, 6), 3), inputs(3, (5, 6), exact_linear((5, 6), 3))
    x_adv = SimBA(20)(model, x.requires_grad_(True), y, LpBall("l2", 1e-3))
    assert not x_adv.requires_grad
