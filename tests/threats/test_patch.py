"""Patch: one rectangle, and nothing beside it."""

import pytest
import torch

from buckler import draws
from buckler.errors import UsageError
from buckler.threats import Goal
from buckler.threats.patch import Patch, window_sums

SHAPES = [(1, 6, 8), (3, 7, 5), (6, 8)]


def points(n: int, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return draws.uniform(seed, torch.arange(n), 0, shape).double()


def corners(shape: tuple[int, ...], size: tuple[int, int]) -> list[tuple[int, int]]:
    return [
        (top, left)
        for top in range(shape[-2] - size[0] + 1)
        for left in range(shape[-1] - size[1] + 1)
    ]


def test_contains_wants_one_rectangle() -> None:
    x = torch.zeros(5, 1, 6, 8)
    x_adv = x.clone()
    x_adv[0, 0, 4:6, 5:8] = 1  # the last row and column belong to the image
    x_adv[1, 0, 0, 0] = x_adv[1, 0, 2, 0] = 1  # three rows apart
    x_adv[2, 0, 0, 0] = x_adv[2, 0, 0, 3] = 1  # four columns apart
    x_adv[3, 0, 1, 1] = x_adv[3, 0, 2, 3] = 1  # two opposite corners of a 2 x 3 window
    threat = Patch((2, 3))
    assert threat.contains(x, x_adv).tolist() == [True, False, False, True, True]
    assert threat.distance(x, x_adv).tolist() == [6, 3, 4, 6, 0]


def test_contains_wants_the_place() -> None:
    x = torch.zeros(4, 1, 6, 8)
    x_adv = x.clone()
    x_adv[0, 0, 2:4, 3:6] = 1
    x_adv[1, 0, 1, 3] = 1
    x_adv[2, 0, 3, 6] = 1
    threat = Patch((2, 3), place=(2, 3))
    assert threat.contains(x, x_adv).tolist() == [True, False, False, True]


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf")])
def test_contains_wants_the_box(value: float) -> None:
    x_adv = torch.zeros(1, 1, 4, 4)
    x_adv[0, 0, 1, 1] = value
    assert not bool(Patch((2, 2)).contains(torch.zeros(1, 1, 4, 4), x_adv))


@pytest.mark.parametrize("shape", SHAPES)
def test_projection_against_every_place(shape: tuple[int, ...]) -> None:
    threat, x = Patch((2, 3)), points(5, shape, 0)
    z = x + draws.normal(1, torch.arange(5), 0, shape)
    got = threat.project(x, z)
    assert bool(threat.contains(x, got).all())
    nearest = torch.full((5,), torch.inf, dtype=x.dtype)
    for top, left in corners(shape, (2, 3)):
        point = x.clone()
        window = (..., slice(top, top + 2), slice(left, left + 3))
        point[window] = z.clamp(0, 1)[window]
        nearest = torch.minimum(nearest, (point - z).flatten(1).square().sum(1))
    torch.testing.assert_close((got - z).flatten(1).square().sum(1), nearest)
    assert torch.equal(threat.project(x, got), got)


def test_a_fixed_place_is_kept_by_every_part() -> None:
    threat, x = Patch((2, 2), place=(3, 1)), points(4, (1, 6, 8), 0)
    rows = torch.arange(4)
    free = Patch((2, 2))
    for point in (threat.project(x, 1 - x), threat.random_point(x, 0, rows, 0)):
        assert bool(threat.contains(x, point).all())
        assert int(((point != x).sum((1, 2, 3)) == 4).sum()) == 4
    step = threat.steepest(x - 2)
    assert int((step != 0).sum()) == 16
    assert bool((step[:, 0, 3:5, 1:3] == -1).all())
    assert not bool((free.steepest(x - 2)[:, 0, 3:5, 1:3] == -1).all())


@pytest.mark.parametrize("box", [(0.0, 1.0), (-0.1, 0.3), (-2.1179, 2.64)])
@pytest.mark.parametrize("shape", SHAPES)
def test_random_points_are_inside_and_reach_every_pixel(
    shape: tuple[int, ...], box: tuple[float, float]
) -> None:
    threat, rows = Patch((2, 3), box=box), torch.arange(400)
    x = (box[0] + (box[1] - box[0]) * points(400, shape, 0).float()).clamp(*box)
    p = threat.random_point(x, 1, rows, 0)
    assert bool(threat.contains(x, p).all())
    assert threat.distance(x, p).tolist() == [6.0] * 400
    assert bool((p != x).any(0).all()), "the last row and column must be drawn too"
    some = torch.tensor([17, 4])
    assert torch.equal(threat.random_point(x[some], 1, some, 0), p[some])
    assert threat.random_point(x[:0], 1, rows[:0], 0).shape == (0, *shape)


def test_a_share_never_exceeds_itself() -> None:
    x = torch.zeros(1, 3, 10, 20)
    assert Patch(0.25).window(x) == (5, 10)
    assert Patch(1.0).window(x) == (10, 20)
    assert Patch(0.001).window(x) == (1, 1)
    for share in (0.05, 0.1, 0.3, 0.77):
        tall, broad = Patch(share).window(x)
        assert tall * broad <= share * 200


def test_window_sums_by_hand() -> None:
    values = points(2, (4, 5), 3)
    sums = window_sums(values, (2, 3))
    assert sums.shape == (2, 3, 3)
    assert float(sums[1, 2, 1]) == pytest.approx(float(values[1, 2:4, 1:4].sum()))


def test_unbounded_covers_the_image() -> None:
    x = torch.zeros(2, 3, 4, 5)
    threat = Patch((1, 1), place=(2, 2)).unbounded(x)
    assert bool(threat.contains(x, torch.ones_like(x)).all())


def test_values() -> None:
    threat = Patch((2, 3), goal=Goal("targeted", torch.tensor([1, 2, 0])))
    assert threat.take(torch.tensor([2])).goal.target.tolist() == [0]
    assert threat.with_goal(Goal()).to_dict() == {
        "kind": "patch",
        "size": [2, 3],
        "place": None,
        "goal": "untargeted",
    }
    assert (str(threat), str(Patch(0.1))) == ("patch of 2 x 3 pixels", "patch of 0.1 of the image")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (((0, 2),), r"size must be \(height, width\) in pixels, >= 1\. Got \(0, 2\)"),
        ((1.5,), r"share of the image must be in \(0, 1\]\. Got 1\.5"),
        ((float("nan"),), "Got nan"),
        (((1, 1), (-1, 0)), r"place must be \(top, left\) in pixels, >= 0\. Got \(-1, 0\)"),
        (((1, 1), None, (1.0, 1.0)), r"box must be \(low, high\) with low < high"),
    ],
)
def test_an_impossible_patch_is_refused(arguments: tuple, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Patch(*arguments)


def test_what_does_not_fit_is_refused() -> None:
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(UsageError, match=r"inside the image of 4 x 4 pixels\. Got 2 x 3 .*\(3, 0"):
        Patch((2, 3), place=(3, 0)).contains(x, x)
    with pytest.raises(UsageError, match=r"this threat needs images.*Got the shape \(2, 9\)"):
        Patch((2, 3)).contains(torch.zeros(2, 9), torch.zeros(2, 9))
