"""Auto-PGD and Strong against exact distances, and their schedules."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from buckler import draws
from buckler.attacks import APGD, Strong
from buckler.attacks.apgd import best_targets
from buckler.attacks.apgd_l1 import _sparse_sign
from buckler.errors import UsageError
from buckler.models import Counted
from buckler.testing import LinearModel
from buckler.threats import Goal, LpBall
from tests.attacks.exact_linear import CASES, exact_linear, inputs

WIDE = (-50.0, 50.0)  # a box that no ball here meets


def exact(model: LinearModel, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """(n,) distance to the nearest other class."""
    logits = model(x)
    margin = logits.gather(1, y[:, None]) - logits
    slopes = (model.weight[y][:, None] - model.weight[None]).abs()
    dual = {"linf": slopes.sum(2), "l2": slopes.square().sum(2).sqrt(), "l1": slopes.amax(2)}[norm]
    own = torch.nn.functional.one_hot(y, logits.shape[1]).bool()
    return (margin / dual.masked_fill(own, 1)).masked_fill(own, torch.inf).amin(1)


REACH = {"linf": 1.1, "l2": 1.1, "l1": 2.0}  # of the exact distance; one L1 step moves many values
SHORT = Strong(first=5, steps=30, last=30, queries=20, more=20)


@pytest.mark.parametrize("norm", sorted(REACH))
@pytest.mark.parametrize(("shape", "classes"), [CASES[0], CASES[1], CASES[2]])
@pytest.mark.parametrize(
    "attack",
    [
        APGD(steps=40),
        APGD(steps=40, loss="dlr", targets=9),
        APGD(steps=40, loss="margin", restarts=2),
        SHORT,
    ],
    ids=["CE", "T", "margin", "Strong"],
)
def test_it_wins_where_winning_is_possible_and_only_there(attack, shape, classes, norm) -> None:
    """Cross entropy pushes away from all classes at once: of many it does not find the nearest."""
    if norm == "l1" and attack.name == "APGD":
        attack = replace(attack, steps=100)  # its schedule is in hundredths of the steps
    model = exact_linear(shape, classes)
    x, y, _ = inputs(6, shape, model)
    reach = exact(model, x, y, norm)
    below = attack(model, x, y, LpBall(norm, 0.98 * reach, WIDE))
    assert bool((model(below).argmax(1) == y).all())
    far = REACH[norm] * (2 if attack.name == "APGD" and attack.loss == "ce" and classes > 2 else 1)
    above = attack(model, x, y, LpBall(norm, far * reach, WIDE))
    assert bool((model(above).argmax(1) != y).all())


def test_the_cost_of_a_row_that_holds() -> None:
    """x, the start, and a forward and a backward each step; a target is a run of its own."""
    model = Counted(lambda z: z.flatten(1)[:, :5] * 1e-6 + torch.tensor([9.0, 0, 0, 0, 0]))
    x, y = draws.uniform(0, torch.arange(6), 0, (1, 3, 4)), torch.zeros(6).long()
    APGD(steps=20)(model, x, y, LpBall("linf", 0.1))
    assert (model.forwards, model.backwards) == (6 * 22, 6 * 21)
    model.forwards = model.backwards = 0
    APGD(steps=20, loss="dlr", targets=3)(model, x, y, LpBall("linf", 0.1))
    assert (model.forwards, model.backwards) == (6 * (1 + 3 * 21), 6 * 3 * 21)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_targets_side_by_side_win_the_same_rows(norm: str) -> None:
    model = exact_linear((30,), 10)
    x, y, _ = inputs(20, (30,), model)
    threat = LpBall(norm, 1.1 * exact(model, x, y, norm) * torch.linspace(0.8, 1.2, 20), WIDE)
    one = APGD(steps=30, loss="dlr", targets=9, restarts=2)
    won = [model(a(model, x, y, threat)).argmax(1) != y for a in (one, replace(one, together=4))]
    assert torch.equal(*won)
    assert 0 < int(won[0].sum()) < 20


def test_each_row_halves_its_own_step() -> None:
    """A row on a zigzag finds the middle of its valley only with smaller steps; its neighbour on a
    plain slope goes the whole way at once."""

    def model(z: Tensor) -> Tensor:
        valley = -(z[:, 0] - 0.5037).abs() * z[:, 1].round() + z[:, 0] * (1 - z[:, 1].round())
        return torch.stack([torch.full_like(valley, 2.0), valley], 1)

    x = torch.tensor([[0.3, 1.0], [0.3, 0.0]], dtype=torch.float64)
    found = APGD(steps=60, loss="margin")(model, x, torch.zeros(2).long(), LpBall("linf", 0.4))
    assert float(found[0, 0]) == pytest.approx(0.5037, abs=2e-3)
    assert float(found[1, 0]) == pytest.approx(0.7, abs=1e-6)


def test_targets_are_the_likeliest_winning_classes() -> None:
    logits = torch.tensor([[5.0, 1.0, 3.0, 2.0], [0.0, 9.0, 1.0, 4.0]])
    y = torch.tensor([0, 1])
    assert best_targets(logits, y, Goal(), 2).tolist() == [[2, 3], [3, 2]]
    assert best_targets(logits, y, Goal("guarded"), 9).tolist() == [[2, 1], [2, 0]]
    assert best_targets(logits, y, Goal("targeted", torch.tensor([1, 3])), 9).tolist() == [[1], [3]]


def test_sparse_steps_have_the_share_asked_and_norm_one() -> None:
    grad = draws.normal(0, torch.arange(3), 0, (40,)).double()
    step = _sparse_sign(grad, torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64))
    assert (step != 0).sum(1).tolist() == [4, 20, 40]
    torch.testing.assert_close(step.abs().sum(1), torch.ones(3).double())
    assert bool((step * grad >= 0).all())


def test_strong_looks_past_the_likeliest_classes() -> None:
    """Class 1 is likely but far; class 5 unlikely but near: a first-order look finds it."""
    weight = torch.zeros(6, 8, dtype=torch.float64)
    weight[1, 0], weight[5, 1:] = 0.01, 4.0
    bias = torch.tensor([6.0, 5.9, 5.8, 5.7, 5.6, -8.0], dtype=torch.float64)
    x, y = torch.full((2, 8), 0.3, dtype=torch.float64), torch.zeros(2).long()
    model = LinearModel(weight, bias)
    assert bool((model(x).argmax(1) == 0).all())
    x_adv = Strong(first=1, finalists=1, targets=5, queries=1, more=1, hope=0.0, steps=10)(
        model, x, y, LpBall("linf", 0.3)
    )
    assert bool((model(x_adv).argmax(1) == 5).all())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, r"Strong needs all counts >= 1, .*steps=0"),
        ({"targets": 2}, r"targets >= finalists .*targets=2"),
        ({"hope": -1.0}, r"hope >= 0\. Got .*hope=-1\.0"),
    ],
)
def test_impossible_parameters_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Strong(**settings)
