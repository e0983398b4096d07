"""WorstOfK where the winning transform is known."""

import pytest
import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.spatial import WorstOfK
from buckler.errors import UsageError
from buckler.testing import check_attack
from buckler.threats import Goal, LpBall
from buckler.threats.spatial import Spatial
from tests.attacks.exact_linear import Counting

WEAK = Spatial(1.0, 0.01)
EACH = Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0]))


@pytest.mark.parametrize(
    ("attack", "threat", "shape"),
    [
        (WorstOfK(k=9, rounds=2), Spatial(), (1, 8, 9)),
        (WorstOfK(k=9, rounds=2), WEAK, (3, 8, 9)),
        (WorstOfK(grid=3, rounds=1), Spatial(5, 0.05, (0.9, 1.1), "edge"), (3, 8, 9)),
        (WorstOfK(grid=2), Spatial(1, 0.01, fill=0.1, box=(-0.1, 0.3)), (8, 9)),
        (WorstOfK(k=5), Spatial(2, 0.02, box=(-2.1179, 2.64), goal=EACH), (1, 6, 6)),
    ],
)
def test_contract(attack, threat, shape) -> None:
    check_attack(attack, threat, shape=shape)


def dot(at: tuple[int, int]) -> Tensor:
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, at[0], at[1]] = 1
    return x


def bright_at(at: tuple[int, int], above: float):
    def model(x: Tensor) -> Tensor:
        value = x[:, 0, at[0], at[1]]
        return torch.stack([torch.zeros_like(value), value - above], 1)

    return model


def test_coarse_to_fine_finds_the_shift_that_brings_the_dot_to_its_place() -> None:
    x, y = dot((2, 2)).repeat(10, 1, 1, 1), torch.zeros(10).long()
    threat, model = Spatial(0, 0.5), bright_at((5, 3), 2.0)  # no shift wins: 1 is the best there is
    fine = WorstOfK(k=64, rounds=8)(model, x, y, threat)
    assert bool((fine[:, 0, 5, 3] > 0.85).all())
    coarse = WorstOfK(k=64, rounds=0)(model, x, y, threat)
    assert bool((coarse[:, 0, 5, 3] <= fine[:, 0, 5, 3] + 1e-6).all())
    assert float(coarse[:, 0, 5, 3].mean()) < 0.85


def test_the_grid_finds_a_turn_at_its_end() -> None:
    x, y = dot((4, 8)), torch.tensor([0])
    threat, model = Spatial(90, 0), bright_at((0, 4), 0.9)  # counter-clockwise, by all of it
    x_adv = WorstOfK(grid=3, rounds=0)(model, x, y, threat)
    assert float(x_adv[0, 0, 0, 4]) == pytest.approx(1)
    assert bool(model(x_adv).argmax(1) == 1)


def test_queries_are_counted_by_the_transforms() -> None:
    model = Counting(bright_at((0, 0), 9.0))
    x, y = dot((4, 4)).repeat(3, 1, 1, 1), torch.tensor([0, 0, 1])  # the last is won at once
    WorstOfK(k=20, rounds=2, around=5)(model, x, y, Spatial())
    assert model.rows == 3 + 2 * (20 + 2 * 6)
    model = Counting(bright_at((0, 0), 9.0))
    WorstOfK(grid=3, rounds=0)(model, x, y, Spatial(30, 0))
    assert model.rows == 3 + 2 * 3, "a parameter that moves nothing has one point"


def test_a_row_that_is_not_won_is_its_best_point() -> None:
    x = draws.uniform(0, torch.arange(6), 0, (1, 9, 9))
    y, model = torch.zeros(6).long(), bright_at((4, 4), 9.0)
    x_adv = WorstOfK()(model, x, y, Spatial())
    assert bool((x_adv[:, 0, 4, 4] > x[:, 0, 4, 4]).all())


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"k": 0}, r"k >= 1, grid 0 or >= 2, rounds >= 0 and around >= 1\. Got k=0"),
        ({"grid": 1}, "grid=1"),
        ({"rounds": -1}, "rounds=-1"),
        ({"around": 0}, "around=0"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        WorstOfK(**fields)


def test_a_threat_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match=r"WorstOfK needs a Spatial threat\. Got linf eps 0\.1"):
        WorstOfK()(lambda x: x, dot((0, 0)), torch.tensor([0]), LpBall("linf", 0.1))
