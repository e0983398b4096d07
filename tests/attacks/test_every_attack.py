"""What every attack must do, beyond the contract: one list, one line an attack."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from buckler import attacks, draws
from buckler.attacks import (
    APGD,
    CW,
    DDN,
    FAB,
    FGSM,
    FMN,
    PGD,
    DeepFool,
    Estimating,
    HopSkipJump,
    OnePixel,
    PatchAttack,
    SigmaZero,
    SimBA,
    Square,
    Strong,
)
from buckler.errors import UsageError
from buckler.models import Counted
from buckler.testing import LinearModel
from buckler.threats import Goal, LpBall, Patch, PixelBudget

LINF, L2, L1 = LpBall("linf", 0.08), LpBall("l2", 0.3), LpBall("l1", 1.5)
FAR = LpBall("l2", 100.0)
EVERY = [
    (FGSM(), LINF),
    (FGSM(start="noise"), LINF),
    (PGD(steps=5), LINF),
    (PGD(steps=5, loss="margin", momentum=1.0, restarts=2), L2),
    (PGD(steps=5), L1),
    (PGD(steps=5, step_size=0.5), PixelBudget(4)),
    (APGD(steps=10), LINF),
    (APGD(steps=10, loss="dlr", targets=3), L2),
    (APGD(steps=12, loss="margin", widen=True), L1),
    (Strong(first=5, steps=8, last=8, queries=20, more=30), LINF),
    (FMN(steps=6), LpBall("linf", 1.0)),
    (FMN(steps=6), LpBall("l1", 1e3)),
    (FMN(steps=6), PixelBudget(1000)),
    (DDN(steps=6), FAR),
    (SigmaZero(steps=6), PixelBudget(1000)),
    (CW(steps=8, searches=2), FAR),
    (DeepFool(steps=4), FAR),
    (FAB(steps=4, targets=2, within=True), LINF),
    (FAB(steps=4, targets=2), FAR),
    (Square(queries=25), LINF),
    (Square(queries=25), L2),
    (Square(queries=25), L1),
    (SimBA(queries=25), L2),
    (OnePixel(population=8, generations=2), PixelBudget(2)),
    (HopSkipJump(queries=60, probes=10), FAR),
    (HopSkipJump(queries=60, probes=10, within=True), LINF),
    (Estimating(PGD(steps=3), queries_per_gradient=10), LINF),
    (PatchAttack(steps=4, places=3, probe=1), Patch((2, 3))),
]
NAMES = [f"{attack.name}-{threat}".replace(" ", "") for attack, threat in EVERY]
every = pytest.mark.parametrize(("attack", "threat"), EVERY, ids=NAMES)
ROWS = 30 + torch.arange(9)


def net(classes: int = 4) -> nn.Module:
    """A small convolutional net in float64, its batch statistics fixed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = [nn.Conv2d(1, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1)]
        return (
            nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(48, classes)).double().eval()
        )


def rows(model, shape: tuple[int, ...] = (1, 7, 10)) -> tuple[torch.Tensor, torch.Tensor]:
    x = draws.uniform(5, ROWS, 0, shape).double()
    x.flatten(1)[:, ::5] = x.flatten(1)[:, ::5].round()  # pixels at 0 and 1
    return x, model(x).argmax(1).detach()


@every
def test_a_row_does_not_feel_its_batch(attack, threat) -> None:
    """On a convolutional net in float64: the whole batch, and each row by itself."""
    model = net()
    x, y = rows(model)
    whole = attack(model, x, y, threat, seed=1, rows=ROWS)
    for i in range(0, len(x), 4):
        alone = attack(model, x[i : i + 1], y[i : i + 1], threat, seed=1, rows=ROWS[i : i + 1])
        assert float((alone - whole[i : i + 1]).abs().max()) <= 1e-9


@every
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_few_and_many_classes(attack, threat, classes: int) -> None:
    model = net(classes)
    x, y = rows(model)
    x_adv = attack(model, x, y, threat, seed=1, rows=ROWS)
    assert bool(threat.contains(x, x_adv).all())
    before, after = (Goal().objective(model(point), y) for point in (x, x_adv))
    assert bool((after >= torch.minimum(before, torch.zeros(())) - 1e-9).all())


@every
def test_only_differences_of_logits_count(attack, threat) -> None:
    """Shifted far below zero the points are the same: a maximum that starts at 0 would not see."""
    model = net()
    x, y = rows(model)
    plain = attack(model, x, y, threat, seed=1, rows=ROWS)
    shifted = attack(lambda z: model(z) - 64.0, x, y, threat, seed=1, rows=ROWS)
    same = (plain - shifted).flatten(1).abs().amax(1) <= 1e-6
    assert float(same.double().mean()) >= 0.88


@every
def test_it_does_what_it_is_for(attack, threat) -> None:
    """On a steep linear model every row falls."""
    weight = draws.normal(0, torch.arange(3), 0, (70,)).double() * 40
    model = LinearModel(weight, -weight.sum(1) / 2).requires_grad_(False)
    x, y = rows(model)
    x, y = 0.5 + 0.02 * (x - 0.5), model(0.5 + 0.02 * (x - 0.5)).argmax(1)
    x_adv = attack(model, x, y, threat, seed=0, rows=ROWS)
    won = model(x_adv).argmax(1) != y
    assert bool(threat.contains(x, x_adv).all())
    assert int(won.sum()) >= (6 if attack.name in ("OnePixel", "SimBA", "Patch") else 8)


@pytest.mark.parametrize(
    ("attack", "threat"),
    [case for case in EVERY if type(case[0]) in (Square, SimBA, HopSkipJump)],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("queries", [1, 2, 7, 60])
def test_query_budgets_are_kept_to_the_row(attack, threat, queries: int) -> None:
    """Rows that cannot be won ask exactly what they may; a limit below would raise."""
    attack = replace(attack, queries=queries)
    constant = Counted(lambda z: torch.tensor([1.0, 0.0]).expand(len(z), 2).clone())
    x = draws.uniform(5, ROWS, 0, (1, 7, 10))
    x_adv = attack(constant, x, torch.zeros(9).long(), threat, rows=ROWS)
    assert constant.forwards == 9 * queries
    assert bool(threat.contains(x, x_adv).all())


def test_every_attack_stands_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text()
    missing = [name for name in attacks.__all__ if f"`{name}" not in page and name not in OTHERS]
    assert not missing, f"docs/attacks.md lacks {missing}"


OTHERS = ("Estimating", "Study", "Under", "draws_each_row", "sticker_success")


@every
def test_models_are_never_asked_about_nothing(attack, threat) -> None:
    """`x.view(len(x), -1)` refuses a batch of none: here all rows are won, or soon."""
    model = net()

    def strict(x: torch.Tensor) -> torch.Tensor:
        assert len(x)
        return model(x)

    x, y = rows(model)
    attack(strict, x, (y + 1) % 4, threat, rows=ROWS)  # won before it begins
    attack(lambda z: strict(z) * 1e3, x, y, threat, rows=ROWS)


@every
def test_a_graph_of_x_is_not_followed(attack, threat) -> None:
    model = net()
    x, y = rows(model)
    plain = attack(model, x, y, threat, seed=1, rows=ROWS)
    x_adv = attack(model, x.clone().requires_grad_(True), y, threat, seed=1, rows=ROWS)
    assert not x_adv.requires_grad
    assert torch.equal(x_adv, plain)


@every
def test_logits_of_another_precision(attack, threat) -> None:
    """float32 inputs, float64 logits: a net that normalises with NumPy's numbers."""
    model = net().float()
    x, y = rows(model.double())
    model, x = model.float(), x.float()
    x_adv = attack(lambda z: model(z).double(), x, y, threat, seed=1, rows=ROWS)
    assert x_adv.dtype == torch.float32
    assert bool(threat.contains(x, x_adv).all())


@every
def test_targets_for_each_row_stay_with_their_rows(attack, threat) -> None:
    """Some rows are won at once and leave: the targets of the others must not move up."""
    model = net()
    x, y = rows(model)
    target = torch.where(torch.arange(9) % 2 == 0, y, (y + 1) % 4)
    threat = threat.with_goal(Goal("targeted", target))
    whole = attack(model, x, y, threat, seed=1, rows=ROWS)
    assert bool(threat.contains(x, whole).all())
    odd = torch.arange(1, 9, 2)
    alone = attack(model, x[odd], y[odd], threat.take(odd), seed=1, rows=ROWS[odd])
    assert float((alone - whole[odd]).abs().max()) <= 1e-9


@every
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x, y: (255 * x, y), r"inside the threat's box \(0, 1\).*the box of your data"),
        (lambda x, y: (x * torch.nan, y), r"Got values from nan to nan"),
        (lambda x, y: (x.half(), y), "x must be float32 or float64.*Got torch.float16"),
        (lambda x, y: ((255 * x).byte(), y), "Got torch.uint8"),
        (lambda x, y: (x, y.int()), r"y and rows must be int64 \(\.long\(\)\)"),
    ],
)
def test_inputs_that_are_no_inputs_are_refused(attack, threat, change, sentence: str) -> None:
    model = net()
    x, y = change(*rows(model))
    with pytest.raises(UsageError, match=sentence):
        attack(model, x, y, threat, rows=ROWS)
