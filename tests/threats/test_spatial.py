"""Spatial: the identity bit for bit, whole turns and whole pixels."""

import pytest
import torch

from buckler import draws
from buckler.errors import UsageError
from buckler.threats import Goal
from buckler.threats.spatial import Spatial

SHAPES = [(1, 7, 7), (3, 6, 9), (8, 5)]


def points(n: int, shape: tuple[int, ...]) -> torch.Tensor:
    return draws.uniform(0, torch.arange(n), 0, shape)


def setting(*values: float) -> torch.Tensor:
    return torch.tensor([values])


@pytest.mark.parametrize("fill", [0.0, 0.25, "edge"])
@pytest.mark.parametrize("shape", SHAPES)
def test_zero_is_the_identity_bit_for_bit(shape: tuple[int, ...], fill) -> None:
    x = points(3, shape)
    params = torch.zeros(3, 4)
    params[1, 0] = 1.0  # the row between is turned, its neighbours are not
    out = Spatial(fill=fill, scale=(0.5, 2.0)).transform(x, params)
    assert torch.equal(out[[0, 2]], x[[0, 2]])
    assert not torch.equal(out[1], x[1])


@pytest.mark.parametrize(("share", "turns"), [(1.0, 1), (-1.0, -1)])
@pytest.mark.parametrize("side", [7, 8])
def test_a_quarter_turn_is_rot90(share: float, turns: int, side: int) -> None:
    x = points(2, (3, side, side)).double()
    out = Spatial(rotation=90.0).transform(x, setting(share, 0, 0, 0).double().expand(2, 4))
    torch.testing.assert_close(out, x.rot90(turns, (2, 3)), atol=1e-12, rtol=0)


def test_a_half_turn_of_a_rectangle_is_two_flips() -> None:
    x = points(2, (1, 5, 9)).double()
    out = Spatial(rotation=180.0).transform(x, setting(1, 0, 0, 0).double().expand(2, 4))
    torch.testing.assert_close(out, x.flip(2, 3), atol=1e-12, rtol=0)


def test_whole_pixels_are_shifted_and_the_border_is_filled() -> None:
    x = points(1, (1, 8, 10)).double()
    params = setting(0, 0.5, -1.0, 0).double()  # 2 down of 4, 5 left of 5
    for fill in (0.0, 0.25):
        out = Spatial(0, 0.5, fill=fill).transform(x, params)
        torch.testing.assert_close(out[:, :, 2:, :5], x[:, :, :6, 5:], atol=1e-12, rtol=0)
        torch.testing.assert_close(out[:, :, :2], torch.full((1, 1, 2, 10), fill).double())
    out = Spatial(0, 0.5, fill="edge").transform(x, params)
    torch.testing.assert_close(out[0, 0, 0, :5], x[0, 0, 0, 5:], atol=1e-12, rtol=0)
    torch.testing.assert_close(out[0, 0, 2:, 9], x[0, 0, :6, 9], atol=1e-12, rtol=0)


def test_scale_enlarges_and_shrinks_about_the_middle() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[:, :, 3:5, 3:5] = 1
    threat = Spatial(0, 0, (0.5, 2.0))
    large, small = (threat.transform(x, setting(0, 0, 0, p)) for p in (1.0, -1.0))
    assert float(large.sum()) == pytest.approx(16)
    assert float(small[:, :, 3:5, 3:5].mean()) == pytest.approx(0.25)
    assert threat.free == (False, False, False, True)


@pytest.mark.parametrize("box", [(0.0, 1.0), (-2.1179, 2.64), (-0.1, 0.3)])
@pytest.mark.parametrize("fill", [0.0, 0.1, "edge"])
@pytest.mark.parametrize("shape", SHAPES)
def test_random_points_are_contained_and_keyed(shape: tuple[int, ...], fill, box) -> None:
    threat, rows = Spatial(180, 0.5, (0.5, 2.0), fill, box), torch.arange(200)
    x = (box[0] + (box[1] - box[0]) * points(200, shape)).clamp(*box)
    p = threat.random_point(x, 1, rows, 0)
    assert bool(threat.contains(x, p).all())
    assert bool((threat.distance(x, p) > 0).all())
    some = torch.tensor([17, 4])
    torch.testing.assert_close(threat.random_point(x[some], 1, some, 0), p[some], atol=1e-6, rtol=0)
    assert threat.random_point(x[:0], 1, rows[:0], 0).shape == (0, *shape)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7])
def test_rounding_never_leaves_the_values_of_the_image(value: float) -> None:
    """Bilinear weights add up to one but for rounding: a plain image must stay plain."""
    x = torch.full((200, 1, 9, 13), value)
    threat = Spatial(180, 0.5, (0.5, 2.0), "edge")
    p = threat.random_point(x, 0, torch.arange(200), 0)
    assert torch.equal(p, x)
    assert bool(threat.contains(x, p).all())


def test_contains_wants_the_box_and_the_values_of_the_image() -> None:
    x = 0.4 + 0.2 * points(4, (1, 5, 5))
    x_adv = x.clone()
    x_adv[0, 0, 0, 0] = 0.0  # the fill
    x_adv[1, 0, 0, 0] = 0.9  # brighter than the image ever is
    x_adv[2, 0, 0, 0] = torch.nan
    assert Spatial().contains(x, x_adv).tolist() == [True, False, False, True]
    assert Spatial(fill="edge").contains(x, x_adv).tolist() == [False, False, False, True]


def test_what_has_no_answer_is_refused() -> None:
    x = points(1, (1, 5, 5))
    with pytest.raises(UsageError, match="has no projection: attack it with WorstOfK"):
        Spatial().project(x, x)
    with pytest.raises(UsageError, match="has no steepest step: attack it with WorstOfK"):
        Spatial().steepest(x)


def test_values() -> None:
    threat = Spatial(goal=Goal("targeted", torch.tensor([1, 2])))
    assert threat.take(torch.tensor([1])).goal.target.tolist() == [2]
    assert threat.with_goal(Goal()).to_dict() == {
        "kind": "spatial",
        "rotation": 30.0,
        "translation": 0.1,
        "scale": [1.0, 1.0],
        "fill": 0.0,
        "goal": "untargeted",
    }
    assert str(threat) == "rotation 30°, shift 0.1, scale 1 to 1"
    assert threat.unbounded(torch.zeros(1, 1, 5, 5)).rotation == 180.0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rotation": -1}, r"rotation must be in \[0, 180\] degrees.*Got rotation=-1"),
        ({"translation": 1.1}, r"translation=1\.1"),
        ({"scale": (1.1, 1.2)}, r"0 < least <= 1 <= largest\. Got \(1\.1, 1\.2\)"),
        ({"fill": 2.0}, r"fill must be 'edge' or a value inside the box \(0\.0, 1\.0\)\. Got 2\.0"),
        ({"box": (0, 0)}, "box must be"),
    ],
)
def test_impossible_ranges_are_refused(fields: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Spatial(**fields)
