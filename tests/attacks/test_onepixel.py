"""OnePixel against exhaustive search, and what it may touch."""

import pytest
import torch
from torch import Tensor, nn

from buckler import draws
from buckler.attacks import OnePixel, onepixel
from buckler.attacks.onepixel import paint
from buckler.threats import Goal, PixelBudget
from tests.attacks.exact_linear import Counting


def weights(seed: int, *shape: int) -> Tensor:
    return draws.normal(seed, torch.arange(shape[0]), 0, shape[1:])


def perceptron() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    net[1].weight.data = 0.08 * weights(1, 32, 64)
    net[3].weight.data = weights(2, 10, 32)
    return filled(net)


def convolution() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10)
    )
    net[0].weight.data = weights(3, 8, 1, 3, 3)
    net[3].weight.data = weights(4, 10, 8 * 64)
    return filled(net)


def filled(net: nn.Module) -> nn.Module:
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    return net.eval().requires_grad_(False)


def exhaustive(model: nn.Module, x: Tensor, y: Tensor, levels: int = 17) -> Tensor:
    """(n,) bool: some pixel at one of the levels wins. All places, all levels."""
    n, places = len(x), x[0].numel()
    won = torch.zeros(n, dtype=torch.bool)
    for value in torch.linspace(0, 1, levels):
        every = x.flatten(1)[:, None].repeat(1, places, 1)
        every.diagonal(dim1=1, dim2=2).fill_(value)
        objective = Goal().objective(
            model(every.reshape(n * places, *x.shape[1:])), y.repeat_interleave(places)
        )
        won |= (objective.reshape(n, places) > 0).any(1)
    return won


@pytest.mark.parametrize("make", [perceptron, convolution])
def test_it_finds_what_exhaustive_search_finds(make) -> None:
    """At least 95 % of the rows that some of all 64 places × 17 levels breaks; 60 rows or more."""
    model = make()
    x = draws.uniform(5, torch.arange(400), 0, (1, 8, 8))
    y = model(x).argmax(1)
    assert len(y.unique()) >= 4
    can = exhaustive(model, x, y)
    x, y = x[can][:150], y[can][:150]
    assert len(x) >= 60
    assert int((~can).sum()) >= 60, "the task must not be easy"
    x_adv = OnePixel()(model, x, y, PixelBudget(1), seed=0)
    assert bool(PixelBudget(1).contains(x, x_adv).all())
    share = float((model(x_adv).argmax(1) != y).double().mean())
    assert share >= 0.95, f"found {share:.1%} of the {len(x)} rows that exhaustive search breaks"


def test_more_pixels_break_more() -> None:
    model = perceptron()
    x = draws.uniform(5, torch.arange(60), 0, (1, 8, 8))
    y = model(x).argmax(1)
    broken = []
    for pixels in (1, 3):
        threat = PixelBudget(pixels)
        x_adv = OnePixel(40, 10)(model, x, y, threat)
        assert bool(threat.contains(x, x_adv).all())
        broken.append(int((model(x_adv).argmax(1) != y).sum()))
    assert broken[0] < broken[1]


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 100, 200)])
def test_queries_are_counted_by_the_members(shape: tuple[int, ...]) -> None:
    model = Counting(lambda x: torch.stack([x.flatten(1).sum(1) * 0 + 9, x.flatten(1)[:, 0]], 1))
    x, y = torch.full((3, *shape), 0.5), torch.zeros(3).long()
    OnePixel(population=10, generations=4)(model, x, y, PixelBudget(1))
    assert model.rows == 3 * (1 + 10 * (1 + 4))
    assert OnePixel(population=10, generations=4).queries == 1 + 10 * (1 + 4)
    assert max(seen.numel() for seen in model.seen) <= 1 << 18


@pytest.mark.parametrize("shape", [(1, 100, 200), (3, 300, 300)])
def test_members_are_painted_a_forward_at_a_time(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows x population at once would be gigabytes for images of a real size."""
    model = Counting(lambda x: torch.stack([x.flatten(1).sum(1) * 0 + 9, x.flatten(1)[:, 0]], 1))
    painted = []

    def spy(*arguments):
        painted.append(paint(*arguments))
        return painted[-1]

    monkeypatch.setattr(onepixel, "paint", spy)
    x, y = torch.full((2, *shape), 0.5), torch.zeros(2).long()
    OnePixel(population=10, generations=1)(model, x, y, PixelBudget(1))
    most = max(1, onepixel._VALUES // x[0].numel())
    assert max(len(seen) for seen in model.seen[1:]) == most
    assert max(points.shape[0] * points.shape[1] for points in painted) == max(most, len(x))


def test_a_won_row_leaves() -> None:
    model = Counting(lambda x: torch.stack([0 * x.flatten(1)[:, 0], x.flatten(1)[:, 0] + 1], 1))
    x, y = torch.rand(3, 1, 4, 4), torch.tensor([0, 0, 1])
    OnePixel(population=10, generations=4)(model, x, y, PixelBudget(1))
    assert model.rows == 3 + 1 * 10 * 5, "rows 0 and 1 are won as they are"


def test_every_place_is_among_the_first_members() -> None:
    """population ≥ places: the places are spread evenly, so none is left out."""
    model = Counting(lambda x: torch.stack([x.flatten(1).sum(1) * 0 + 9, x.flatten(1)[:, 0]], 1))
    x = torch.full((2, 1, 5, 7), 0.5)
    OnePixel(population=70, generations=0)(model, x, torch.zeros(2).long(), PixelBudget(1))
    touched = (torch.cat(model.seen[1:]) != 0.5).any(0).flatten()
    assert bool(touched.all())


def test_paint_sets_whole_pixels_and_nothing_else() -> None:
    x = torch.zeros(1, 3, 2, 2)
    genes = torch.tensor([[[[0.0, 0.1, 0.2, 0.3]], [[0.999999, 1.0, 0.0, 0.5]]]])
    first, last = paint(x, genes, (0.0, 1.0))[0]
    assert first[:, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert last[:, 1, 1].tolist() == [1.0, 0.0, 0.5]
    assert int((first != 0).sum()) == 3
    assert int((last != 0).sum()) == 2
    assert float(x.abs().sum()) == 0


@pytest.mark.parametrize("box", [(-0.1, 0.3), (-2.1179, 2.64), (0.007, 1.583)])
def test_painted_values_stay_in_a_box_that_float32_cannot_hold(box: tuple[float, float]) -> None:
    x = torch.full((1, 1, 3, 3), box[0])
    genes = torch.ones(1, 2, 1, 2)
    genes[:, 1, :, 1] = 0
    for point in paint(x, genes, box)[0]:
        assert bool(PixelBudget(1, box).contains(x, point[None]).all())


def test_where_everything_else_is_worse_x_comes_back() -> None:
    x = torch.full((3, 1, 4, 4), 0.5)

    def best_at_x(z):
        away = (z - 0.5).flatten(1).abs().sum(1)
        return torch.stack([1 + away, 0 * away], 1)

    x_adv = OnePixel(population=4, generations=0)(
        best_at_x, x, torch.zeros(3).long(), PixelBudget(1)
    )
    assert torch.equal(x_adv, x)
