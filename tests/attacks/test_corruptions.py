"""Corruptions: the least severity that wins, the worst kind where none does."""

import pytest
import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.corruptions import Corruptions
from buckler.errors import UsageError
from buckler.testing import check_attack
from buckler.threats import Goal, LpBall
from buckler.threats.corruption import Corruption
from tests.attacks.exact_linear import Counting


@pytest.mark.parametrize(
    ("attack", "threat", "shape"),
    [
        (Corruptions(), Corruption(), (1, 8, 9)),
        (Corruptions(tries=2), Corruption(("fog", "snow", "shot_noise"), 1), (3, 8, 8)),
        (Corruptions(), Corruption(("brightness",), 1, (-2.1179, 2.64)), (9, 8)),
        (
            Corruptions(),
            Corruption(
                ("pixelate", "jpeg_compression"),
                2,
                goal=Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0])),
            ),
            (3, 8, 8),
        ),
    ],
)
def test_contract(attack, threat, shape) -> None:
    check_attack(attack, threat, shape=shape)


def bright(above: float):
    def model(x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(mean), mean - above], 1)

    return model


@pytest.mark.parametrize(("above", "severity"), [(0.55, 1), (0.75, 3), (0.95, 5)])
def test_the_least_severity_that_wins(above: float, severity: int) -> None:
    x, y = torch.full((2, 1, 8, 8), 0.5), torch.zeros(2).long()
    x_adv = Corruptions()(bright(above), x, y, Corruption(("contrast", "brightness")))
    torch.testing.assert_close(x_adv, torch.full_like(x, 0.5 + 0.1 * severity))


def test_a_row_that_holds_is_its_worst_corruption() -> None:
    x, y = torch.full((2, 1, 8, 8), 0.5), torch.zeros(2).long()
    x_adv = Corruptions()(bright(9.0), x, y, Corruption(("brightness", "contrast"), 4))
    torch.testing.assert_close(x_adv, torch.full_like(x, 0.9))
    y = torch.ones(2).long()  # darker wins, and neither kind makes it darker: x is best
    unmoved = Corruptions()(bright(-9.0), x, y, Corruption(("brightness", "contrast")))
    torch.testing.assert_close(unmoved, x)


def test_rows_leave_and_every_kind_is_tried() -> None:
    model = Counting(bright(9.0))
    x = draws.uniform(0, torch.arange(3), 0, (1, 8, 8))
    Corruptions(tries=2)(model, x, torch.tensor([0, 1, 0]), Corruption(severity=2))
    assert model.rows == 3 + 2 * (15 * 2 * 2)


def test_more_tries_find_more() -> None:
    """Salt in one pixel: a chance that draws repeat."""

    def corner(x: Tensor) -> Tensor:
        value = x[:, 0, 0, 0]
        return torch.stack([torch.zeros_like(value), value - 0.9], 1)

    x, y, threat = torch.full((60, 1, 8, 8), 0.5), torch.zeros(60).long(), Corruption()
    threat = Corruption(("impulse_noise",), 5)
    won = [
        int((corner(Corruptions(tries=tries)(corner, x, y, threat)).argmax(1) == 1).sum())
        for tries in (1, 8)
    ]
    assert won[0] < won[1]


def test_wrong_use_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Corruptions needs tries >= 1\. Got 0"):
        Corruptions(tries=0)
    x, y = torch.zeros(1, 1, 8, 8), torch.tensor([0])
    with pytest.raises(UsageError, match=r"needs a Corruption threat\. Got linf eps 0\.1"):
        Corruptions()(bright(0.5), x, y, LpBall("linf", 0.1))
