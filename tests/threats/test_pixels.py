"""PixelBudget: what is one pixel, and which changes stay."""

from itertools import combinations

import pytest
import torch

from buckler import draws
from buckler.errors import UsageError
from buckler.threats import Goal, PixelBudget
from buckler.threats.pixels import as_grid

SHAPES = [((9,), 9), ((3, 5), 15), ((1, 3, 5), 15), ((3, 2, 4), 8)]


def points(n: int, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return draws.uniform(seed, torch.arange(n), 0, shape)


@pytest.mark.parametrize(("shape", "places"), SHAPES)
def test_what_one_pixel_is(shape: tuple[int, ...], places: int) -> None:
    x = points(2, shape, 0)
    assert as_grid(x).shape[2] == places
    assert as_grid(x).reshape(x.shape).equal(x)


def test_channels_of_one_place_are_one_pixel() -> None:
    x = torch.zeros(1, 3, 2, 2)
    x_adv = x.clone()
    x_adv[0, :, 1, 0] = torch.tensor([0.1, 0.2, 0.3])
    threat = PixelBudget(1)
    assert threat.distance(x, x_adv).tolist() == [1.0]
    assert bool(threat.contains(x, x_adv))
    x_adv[0, 2, 0, 0] = 0.5
    assert threat.distance(x, x_adv).tolist() == [2.0]
    assert not bool(threat.contains(x, x_adv))


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf")])
def test_contains_wants_the_box(value: float) -> None:
    x = torch.zeros(1, 4)
    x_adv = x.clone()
    x_adv[0, 0] = value
    assert not bool(PixelBudget(1).contains(x, x_adv))


@pytest.mark.parametrize("pixels", [1, 2, 3])
@pytest.mark.parametrize(("shape", "places"), SHAPES)
def test_projection_against_every_choice_of_pixels(
    shape: tuple[int, ...], places: int, pixels: int
) -> None:
    threat = PixelBudget(pixels)
    x = points(6, shape, 0).double()
    z = x + draws.normal(1, torch.arange(6), 0, shape)
    got = threat.project(x, z)
    assert bool(threat.contains(x, got).all())
    inside, grid = as_grid(z.clamp(0, 1)), as_grid(x)
    nearest = torch.full((6,), torch.inf, dtype=x.dtype)
    for chosen in combinations(range(places), pixels):
        point = grid.clone()
        point[:, :, list(chosen)] = inside[:, :, list(chosen)]
        nearest = torch.minimum(nearest, (point - as_grid(z)).square().sum((1, 2)))
    torch.testing.assert_close((got - z).flatten(1).square().sum(1), nearest)
    torch.testing.assert_close(threat.project(x, got), got)


@pytest.mark.parametrize("box", [(0.0, 1.0), (-0.1, 0.3), (-2.1179, 2.64)])
@pytest.mark.parametrize(("shape", "places"), SHAPES)
def test_random_points_are_inside_and_keyed(
    shape: tuple[int, ...], places: int, box: tuple[float, float]
) -> None:
    threat = PixelBudget(2, box)
    rows = torch.arange(300)
    x = (box[0] + (box[1] - box[0]) * points(300, shape, 0)).clamp(*box)
    p = threat.random_point(x, 1, rows, 0)
    assert bool(threat.contains(x, p).all())
    assert threat.distance(x, p).tolist() == [2.0] * 300
    touched = (as_grid(p) != as_grid(x)).any(1).any(0)
    assert bool(touched.all()), "every pixel must be drawn at some time, the last one too"
    some = torch.tensor([17, 4])
    assert torch.equal(threat.random_point(x[some], 1, some, 0), p[some])
    assert not torch.equal(threat.random_point(x, 2, rows, 0), p)
    assert threat.random_point(x[:0], 1, rows[:0], 0).shape == (0, *shape)


def test_a_budget_larger_than_the_image() -> None:
    threat = PixelBudget(100)
    x, z = points(2, (1, 2, 2), 0), points(2, (1, 2, 2), 1)
    assert torch.equal(threat.project(x, z), z)
    assert bool(threat.contains(x, threat.random_point(x, 0, torch.arange(2), 0)).all())


def test_steepest_steps_at_the_steepest_pixels() -> None:
    grad = torch.tensor([[[[1.0, -3.0]], [[-1.0, 0.5]]]])  # two channels of two pixels
    assert PixelBudget(1).steepest(grad).flatten().tolist() == [0.0, -1.0, 0.0, 1.0]
    assert PixelBudget(2).steepest(grad).flatten().tolist() == [1.0, -1.0, -1.0, 1.0]


def test_unbounded_has_every_pixel() -> None:
    assert PixelBudget(1).unbounded(torch.zeros(2, 3, 4, 5)).pixels == 20
    assert PixelBudget(1).unbounded(torch.zeros(2, 7)).pixels == 7


def test_values() -> None:
    threat = PixelBudget(3, goal=Goal("targeted", torch.tensor([1, 2, 0])))
    assert threat.take(torch.tensor([2])).goal.target.tolist() == [0]
    assert threat.with_goal(Goal()).to_dict() == {
        "kind": "pixels",
        "pixels": 3,
        "goal": "untargeted",
    }
    assert (str(PixelBudget(1)), str(threat)) == ("1 pixel", "3 pixels")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0,), r"pixels must be at least 1\. Got 0"),
        ((1, (1.0, 1.0)), r"box must be \(low, high\) with low < high\. Got \(1\.0, 1\.0\)"),
    ],
)
def test_an_impossible_budget_is_refused(arguments: tuple, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        PixelBudget(*arguments)
