"""assess: who counts is not who attacks."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from buckler.assess import Ledger, assess, of_guard, of_model
from buckler.attacks import FGSM, PGD, Square, Under, suites
from buckler.errors import DataError, UsageError
from buckler.guard import article, calibrate
from buckler.threats import LpBall, Patch, PixelBudget

THREAT = LpBall("linf", 0.1)


@dataclass(frozen=True)
class Fixed:
    """An attack that returns what it is told."""

    points: torch.Tensor
    name: str = "fixed"

    def __call__(self, model, x, y, threat, *, seed=0, rows=None):
        return self.points[rows] if rows is not None else self.points


@pytest.fixture
def target(dataset, trained):
    return of_model(trained, dataset.spec, dataset["test"].x)


def test_an_attack_that_returns_the_clean_input_breaks_nothing(target, dataset):
    x, y = dataset["test"].x, dataset["test"].y
    found = assess(target, x, y, THREAT, (Fixed(x),))
    assert found.ledger.rates()["success"].k == 0
    assert (found.ledger.distance == 0).all()


def test_an_attack_that_leaves_the_ball_or_the_box_is_refused(target, dataset):
    x, y = dataset["test"].x, dataset["test"].y
    for points in ((x + 0.11).clamp(0, 1), x - 0.05, x * torch.nan):
        with pytest.raises(UsageError, match=r"'fixed' returned .* points outside the threat"):
            assess(target, x, y, THREAT, (Fixed(points),))


def test_rates_against_a_hand_count():
    ledger = Ledger(
        row=np.arange(5),
        y=np.array([0, 0, 0, 1, 1]),
        prediction_before=np.array([0, 0, 0, 1, 0]),
        accepted_before=np.array([True, True, False, True, True]),
        prediction_after=np.array([1, 0, 1, 1, 0]),
        accepted_after=np.array([True, True, True, False, True]),
        broken_by=np.array(["PGD", "", "Square", "", ""]),
        on_grid=np.array([False, False, True, False, False]),
        distance=np.zeros(5),
    )
    rates = {name: (rate.k, rate.n) for name, rate in ledger.rates().items()}
    assert rates == {
        "clean_accuracy": (4, 5),
        "accepted_right": (3, 5),
        "review_rate": (1, 5),
        "success": (2, 4),
        "success_of_all": (3, 5),  # two broken, one wrong and accepted from the start
        "success_on_grid": (1, 4),
    }


def test_ledger_round_trip(target, dataset, tmp_path):
    found = assess(target, dataset["test"].x, dataset["test"].y, THREAT, (FGSM(),))
    found.ledger.save(tmp_path / "l.npz")
    again = Ledger.load(tmp_path / "l.npz")
    assert again.rates() == found.ledger.rates()
    with pytest.raises(DataError, match="cannot be read as a ledger"):
        Ledger.load(tmp_path / "none.npz")


def test_worst_case_is_the_same_whether_each_attack_sees_every_row(target, dataset):
    x, y = dataset["test"].x, dataset["test"].y
    suite = (FGSM(), PGD(steps=10, loss="margin"), Square(queries=50))
    each = assess(target, x, y, THREAT, suite, each=True)
    chain = assess(target, x, y, THREAT, suite)
    assert (each.ledger.broken == chain.ledger.broken).all()
    assert each.suite[1].given == int(each.ledger.right.sum())
    assert chain.suite[1].given == chain.suite[0].given - chain.suite[0].broken
    assert chain.suite[2].forwards <= 50 * chain.suite[2].given


def test_the_answer_does_not_depend_on_who_shares_the_batch(target, dataset):
    x, y = dataset["test"].x, dataset["test"].y
    rows = torch.arange(len(x))
    suite = (PGD(steps=10, restarts=2, loss="margin"), Square(queries=60))
    whole = assess(target, x, y, THREAT, suite, rows=rows).ledger.broken
    halves = [
        assess(target, x[part], y[part], THREAT, suite, rows=rows[part]).ledger.broken
        for part in (rows % 2 == 0, rows % 2 == 1)
    ]
    joined = np.empty(len(x), dtype=bool)
    joined[::2], joined[1::2] = halves
    assert (joined == whole).mean() >= 0.99


def test_an_off_grid_success_is_counted_apart(dataset):
    """A model that flips only between the grid's levels: found in floats, lost in any file."""

    class Between(nn.Module):
        def forward(self, x):
            off = ((x * 255) - (x * 255).round()).abs().flatten(1).amax(1)
            return torch.stack([0.2 - off, off - 0.2, torch.full_like(off, -9)], 1)

    x = dataset["test"].x
    y = torch.zeros(len(x), dtype=torch.int64)
    target = of_model(Between().eval(), dataset.spec, x)
    found = assess(target, x, y, THREAT, (Fixed((x + 0.4 / 255).clamp(0, 1)),))
    rates = found.ledger.rates()
    assert rates["success"].value == 1.0
    assert rates["success_on_grid"].value == 0.0


def test_a_guards_success_is_accepted_and_wrong(dataset, trained):
    guard = calibrate(dataset, [trained], [1.0], review_rate=0.1)
    x, y = dataset["test"].x, dataset["test"].y
    target = of_guard(guard)
    found = assess(target, x, y, LpBall("linf", 0.25), suites.adaptive(x, 10, 1, 30))
    ledger = found.ledger
    assert ledger.broken.any()
    assert ledger.accepted_after[ledger.broken].all()
    assert (ledger.prediction_after != ledger.y)[ledger.broken].all()


def test_static_attacks_come_from_another_target(dataset, trained, target):
    guard = calibrate(dataset, [trained], [1.0], review_rate=0.1)
    x, y = dataset["test"].x, dataset["test"].y
    static = assess(of_guard(guard), x, y, THREAT, suites.static(), source=target)
    known = assess(of_guard(guard), x, y, THREAT, suites.adaptive(x, 20, 2, 50))
    assert static.knowledge == "static"
    assert known.knowledge == "adaptive"
    assert known.ledger.broken.sum() >= static.ledger.broken.sum()


def test_a_random_guard_is_also_tried_on_last_bit_variants(dataset, trained, monkeypatch):
    guard = article(dataset, [trained], confidence=0.5)
    x, y = dataset["test"].x[:20], dataset["test"].y[:20]
    asked = []
    answer = guard.answer
    target = replace(
        of_guard(guard, draws=1), answer=lambda rows: (asked.append(1), answer(rows))[1]
    )
    assess(target, x, y, THREAT, (FGSM(),))
    # before, the point, ten variants, the file, after
    assert len(asked) == 14


def test_a_last_bit_variant_outside_a_threat_without_a_ball_counts_for_nothing(target, dataset):
    """Any change fools this one; the attacker may change one corner alone."""
    x, y = dataset["test"].x[:20], dataset["test"].y[:20]
    clean = {row.numpy().tobytes(): int(label) for row, label in zip(x, y, strict=True)}

    def answer(rows):
        predicted = [clean.get(row.numpy().tobytes(), 9) for row in rows]
        return torch.tensor(predicted), torch.ones(len(rows), dtype=torch.bool)

    odd = replace(target, answer=answer, random=True)
    corner = Patch((1, 1), place=(0, 0))
    found = assess(odd, x, y, corner, (Under(Fixed(x), corner),))
    assert bool(corner.contains(x, found.x_adv).all())
    assert found.ledger.rates()["success"].value < 0.5
    anywhere = assess(odd, x, y, Patch((1, 1)), (Fixed(x),))
    assert anywhere.ledger.rates()["success"].value == 1.0


def test_bad_input_gets_one_sentence(target, dataset, trained):
    x, y = dataset["test"].x, dataset["test"].y
    with pytest.raises(DataError, match="no data to assess"):
        assess(target, x[:0], y[:0], THREAT, ())
    with pytest.raises(DataError, match="labels must be 0 to 2"):
        assess(target, x, y + 3, THREAT, ())
    with pytest.raises(DataError, match=r"must lie in \[0, 1\].*divide by 255"):
        assess(target, x * 255, y, THREAT, ())
    with pytest.raises(UsageError, match="training mode"):
        of_model(nn.Sequential(nn.Dropout(), trained).train(), dataset.spec, x)
    with pytest.raises(UsageError, match="returns probabilities"):
        of_model(nn.Sequential(trained, nn.Softmax(1)).eval(), dataset.spec, x)


def test_one_pixel_changes_one_pixel(target, dataset):
    x, y = dataset["test"].x[:20], dataset["test"].y[:20]
    found = assess(target, x, y, PixelBudget(1), suites.pixels(16, 4))
    assert (found.ledger.distance <= 1).all()
    assert found.to_dict()["threat"] == {"kind": "pixels", "pixels": 1, "goal": "untargeted"}


def test_rows_in_small_groups_give_the_same_ledger_and_the_bar_moves(target, dataset, monkeypatch):
    x, y = dataset["test"].x, dataset["test"].y
    suite = (PGD(steps=5, step_size=0.25, random_start=True), Square(queries=20))
    whole, said = assess(target, x, y, THREAT, suite), []
    monkeypatch.setattr("buckler.assess.run._TOGETHER", 7)
    parts = assess(target, x, y, THREAT, suite, progress=lambda *step: said.append(step))
    assert np.array_equal(whole.ledger.broken_by, parts.ledger.broken_by)
    assert [r.broken for r in whole.suite] == [r.broken for r in parts.suite]
    assert len(said) > 2 * len(suite)
    assert said == sorted(said)
    assert said[-1] == (200, 200)
