"""ColourShift against a dense grid of settings."""

import pytest
import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.colour import ColourShift
from buckler.errors import UsageError
from buckler.testing import check_attack
from buckler.threats import Goal, LpBall
from buckler.threats.colour import Colour
from tests.attacks.exact_linear import Counting

WEAK = Colour(2, 1.05, 0.01, 1.05, 1.05)
EACH = Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0]))


@pytest.mark.parametrize(
    ("attack", "threat", "shape"),
    [
        (ColourShift(), Colour(), (3, 5, 6)),
        (ColourShift(steps=5, restarts=3), WEAK, (3, 5, 6)),
        (ColourShift(steps=5, loss="ce"), WEAK, (1, 5, 6)),
        (ColourShift(starts=0, steps=5), WEAK, (5, 6)),
        (ColourShift(steps=5), Colour(5, 1.1, 0.02, 1.1, 1.1, (-2.1179, 2.64), EACH), (3, 5, 6)),
        (ColourShift(starts=0, steps=0), WEAK, (1, 5, 6)),
    ],
)
def test_contract(attack, threat, shape) -> None:
    check_attack(attack, threat, shape=shape)


def peak(value: float, above: float):
    """Class 1 where the mean is within reach of `value`: the ends of a range are not the best."""

    def model(x: Tensor) -> Tensor:
        gain = 1 - (x.flatten(1).mean(1) - value).abs() - above
        return torch.stack([torch.zeros_like(gain), gain], 1)

    return model


def test_the_ascent_reaches_what_a_dense_grid_reaches() -> None:
    """Brightness, contrast and gamma, 31 settings each, on a smooth model whose optimum is inside;
    the model cannot be won, so that the best objective counts."""
    x = draws.uniform(0, torch.arange(6), 0, (1, 6, 6)).double()
    w = draws.normal(1, torch.tensor([0]), 0, (1, 6, 6)).double()

    def model(x: Tensor) -> Tensor:
        gain = (w * x).flatten(1).sum(1) - 3 * (x.flatten(1).mean(1) - 0.52) ** 2
        return torch.stack([torch.full_like(gain, 1e3), gain], 1)

    threat, y = Colour(0, 1, 0.1, 1.5, 1.5), torch.zeros(6).long()
    line = torch.linspace(-1, 1, 31).double()
    zero = torch.zeros(1).double()
    best = torch.full((6,), -torch.inf).double()
    for setting in torch.cartesian_prod(zero, zero, line, line, line).split(31 * 31):
        for row in range(6):
            points = threat.transform(x[row].expand(len(setting), -1, -1, -1), setting)
            best[row] = max(best[row], float(model(points)[:, 1].amax()))
    got = model(ColourShift(steps=40, restarts=2)(model, x, y, threat))[:, 1]
    assert bool((got >= best - 1e-3).all()), f"short by {(best - got).tolist()}"
    tried = model(ColourShift(starts=0, steps=0)(model, x, y, threat))[:, 1]
    assert bool((tried < best - 1e-3).any()), "the task must not be solved by the ends alone"


def test_a_narrow_optimum_inside_the_range_is_climbed_to() -> None:
    x, y = torch.full((4, 1, 5, 5), 0.5), torch.zeros(4).long()
    threat, model = Colour(0, 1, 0.3, 1, 1), peak(0.637, 0.99)
    x_adv = ColourShift(starts=0)(model, x, y, threat)
    assert bool((model(x_adv).argmax(1) == 1).all())
    tried = ColourShift(starts=0, steps=0)(model, x, y, threat)
    assert bool((model(tried).argmax(1) == 0).all())


def test_rows_that_are_won_on_the_way_do_not_mix_up_the_others() -> None:
    x = draws.uniform(0, torch.arange(30), 0, (3, 5, 5)).double()
    threat, y, model = Colour(60, 2, 0.3, 2, 2), torch.zeros(30).long(), peak(0.637, 0.998)
    rows, attack = torch.arange(30), ColourShift(starts=0, steps=6, step_size=0.1, restarts=2)
    together = attack(model, x, y, threat, rows=rows)
    won = model(together).argmax(1) == 1
    assert 3 <= int(won.sum()) <= 27
    for row in rows.split(1):
        alone = attack(model, x[row], y[row], threat, rows=row)
        torch.testing.assert_close(alone, together[row])


def test_hue_alone() -> None:
    """Red becomes green by 120 degrees, and the attack finds the way round."""
    x = torch.zeros(2, 3, 4, 4)
    x[:, 0] = 0.8

    def model(x: Tensor) -> Tensor:
        red, green, _ = x.mean((2, 3)).unbind(1)
        return torch.stack([red, green], 1)

    y, threat = torch.zeros(2).long(), Colour(120, 1, 0, 1, 1)
    assert bool((model(ColourShift(starts=0)(model, x, y, threat)).argmax(1) == 1).all())
    still = ColourShift()(model, x, y, Colour(20, 1, 0, 1, 1))
    assert bool((model(still).argmax(1) == 0).all())


def test_queries_and_won_rows() -> None:
    model = Counting(peak(0.5, 2.0))
    x, y = torch.full((3, 1, 5, 5), 0.5), torch.tensor([0, 0, 1])
    ColourShift(starts=3, steps=4, restarts=2)(model, x, y, Colour())
    assert model.rows == 3 + 2 * (1 + 10 + 3) + 2 * 2 * (4 + 1)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"starts": -1}, r"starts >= 0, steps >= 0, restarts >= 1 and step_size > 0\. Got starts="),
        ({"steps": -1}, "steps=-1"),
        ({"restarts": 0}, "restarts=0"),
        ({"step_size": 0.0}, r"step_size=0\.0"),
        ({"loss": "mse"}, "loss must be one of ce, margin"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ColourShift(**fields)


def test_a_threat_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match=r"ColourShift needs a Colour threat\. Got linf eps 0\.1"):
        ColourShift()(lambda x: x, torch.zeros(1, 1, 4, 4), torch.tensor([0]), LpBall("linf", 0.1))
