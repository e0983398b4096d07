"""Colour: the identity bit for bit, each parameter by its formula."""

import pytest
import torch

from buckler import draws
from buckler.errors import UsageError
from buckler.threats import Goal
from buckler.threats.colour import Colour

BOXES = [(0.0, 1.0), (-2.1179, 2.64), (-0.1, 0.3)]
HUE, SATURATION, BRIGHTNESS, CONTRAST, GAMMA = range(5)


def points(n: int, shape: tuple[int, ...], box: tuple[float, float] = (0.0, 1.0)) -> torch.Tensor:
    return (box[0] + (box[1] - box[0]) * draws.uniform(0, torch.arange(n), 0, shape)).clamp(*box)


def only(parameter: int, value: float, n: int = 1) -> torch.Tensor:
    params = torch.zeros(n, 5)
    params[:, parameter] = value
    return params


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 6, 5), (6, 5)])
def test_zero_is_the_identity_bit_for_bit_and_has_a_gradient(shape, box) -> None:
    x = points(4, shape, box)
    x.flatten(1)[:, :2] = x.new_tensor(box)
    params = torch.zeros(4, 5, requires_grad=True)
    out = Colour(box=box).transform(x, params)
    assert torch.equal(out, x)
    pull = draws.normal(3, torch.arange(4), 0, shape)
    grad = torch.autograd.grad((out * pull).sum(), params)[0]
    acts = [True] * 5 if len(shape) == 3 and shape[0] == 3 else [False, False, True, True, True]
    assert ((grad != 0).all(0)).tolist() == acts
    assert bool(torch.isfinite(grad).all())


def test_a_third_of_a_turn_moves_the_channels_on() -> None:
    x = 0.3 + 0.3 * points(2, (3, 4, 4)).double()
    out = Colour(hue=120.0).transform(x, only(HUE, 1.0, 2).double())
    torch.testing.assert_close(out, x.roll(1, 1))
    back = Colour(hue=120.0).transform(out, only(HUE, -1.0, 2).double())
    torch.testing.assert_close(back, x)


def test_each_of_the_others_by_its_formula() -> None:
    x = 0.4 + 0.2 * points(2, (3, 4, 4)).double()
    grey = x.mean(1, keepdim=True)
    threat = Colour(saturation=2.0, brightness=0.1, contrast=2.0, gamma=2.0)
    for parameter, sign, expected in [
        (SATURATION, 1.0, grey + 2 * (x - grey)),
        (SATURATION, -1.0, grey + (x - grey) / 2),
        (BRIGHTNESS, -1.0, x - 0.1),
        (CONTRAST, 1.0, 0.5 + 2 * (x - 0.5)),
        (CONTRAST, -1.0, 0.5 + (x - 0.5) / 2),
        (GAMMA, 1.0, x**2),
        (GAMMA, -1.0, x**0.5),
    ]:
        out = threat.transform(x, only(parameter, sign, 2).double())
        torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 6, 5), (6, 5)])
def test_random_points_are_contained_and_keyed(shape, box) -> None:
    rows = torch.arange(300)
    x = points(300, shape, box)
    x.flatten(1)[:, 3:] = x.flatten(1)[:, :1]  # equal pixels too, and values at the walls
    x.flatten(1)[:, 1:3] = x.new_tensor(box)
    for threat in (Colour(box=box), Colour(box=box).unbounded(x)):
        p = threat.random_point(x, 1, rows, 0)
        assert bool(threat.contains(x, p).all())
    some = torch.tensor([17, 4])
    torch.testing.assert_close(threat.random_point(x[some], 1, some, 0), p[some], atol=1e-5, rtol=0)
    assert threat.random_point(x[:0], 1, rows[:0], 0).shape == (0, *shape)


def test_contains_wants_the_box_and_the_order_of_greys() -> None:
    x = torch.tensor([[[[0.1, 0.1, 0.5]]]]).repeat(4, 1, 1, 1)
    x_adv = x.clone()
    x_adv[0, 0, 0] = torch.tensor([0.2, 0.2, 0.9])
    x_adv[1, 0, 0] = torch.tensor([0.2, 0.3, 0.9])  # equal pixels came apart
    x_adv[2, 0, 0] = torch.tensor([0.2, 0.2, 0.1])  # the brighter one is darker now
    x_adv[3, 0, 0] = torch.tensor([0.2, 0.2, 1.1])
    assert Colour().contains(x, x_adv).tolist() == [True, False, False, False]


def test_what_has_no_answer_is_refused() -> None:
    x = points(1, (1, 5, 5))
    with pytest.raises(UsageError, match="has no projection: attack it with ColourShift"):
        Colour().project(x, x)
    with pytest.raises(UsageError, match="has no steepest step: attack it with ColourShift"):
        Colour().steepest(x)


def test_values() -> None:
    threat = Colour(goal=Goal("targeted", torch.tensor([1, 2])))
    assert threat.take(torch.tensor([1])).goal.target.tolist() == [2]
    assert threat.with_goal(Goal()).to_dict()["goal"] == "untargeted"
    assert Colour(hue=0, gamma=1).free == (False, True, True, True, False)
    assert str(threat).startswith("hue 30°, saturation 1.5")
    x = points(2, (1, 5, 5))
    assert bool((threat.distance(x, x) == 0).all())


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"hue": 181}, r"hue must be in \[0, 180\] degrees.*Got hue=181"),
        ({"brightness": -0.1}, r"brightness=-0\.1"),
        ({"saturation": 0.5}, r"must be at least 1: .*Got 0\.5, 1\.5, 1\.5"),
        ({"gamma": float("nan")}, "nan"),
        ({"box": (0, 0)}, "box must be"),
    ],
)
def test_impossible_ranges_are_refused(fields: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Colour(**fields)
