"""Hardened boosters, by enumeration: what is constrained cannot be evaded, the rest holds more."""

from functools import partial

import pytest
import torch
from torch import Tensor

from buckler import draws
from buckler.attacks import Enumerate
from buckler.errors import DataError, UsageError
from buckler.harden.boosting import BoostingRecipe, constraints, harden_boosting, moved_cheaply
from buckler.models import split_points
from buckler.models.alerts import at_capacity
from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Price

SPEC = FeatureSpec(
    (
        Feature("history", "integer", 0, 20, change="none"),
        Feature("system", "integer", 0, 4, price=Price(change=0.1)),
        Feature("phone", "integer", 0, 1, price=Price(up=10.0, down=0.1)),
        Feature("mails", "integer", 0, 3, change="up", price=Price(up=0.1)),
    )
)
THREAT = FeatureThreat(SPEC, 1.5)
LIBRARIES = ("xgboost", "lightgbm")


def rows(count: int = 1500, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Frauds have little history, one kind of system, no phone and many mails; not always. Some
    good customers have that system too, so that the alerts are among its rows."""
    u = draws.uniform(seed, torch.arange(count), 0, (6,))
    y = (u[:, 0] < 0.5).long()
    fraud = y.float()
    history = (u[:, 1] * 21 * (1 - 0.7 * fraud)).floor()
    system = torch.where(u[:, 2] < 0.3 + 0.65 * fraud, 4.0, (u[:, 3] * 4).floor())
    phone = (u[:, 4] < 0.9 - 0.4 * fraud).float()
    mails = (u[:, 5] * (3 + 0.5 * fraud)).floor()
    return torch.stack([history, system, phone, mails], 1), y


def recall(model, threat: FeatureThreat) -> tuple[float, float]:
    """Caught of the frauds at 5 % false positives: as they are, and after the cheapest evasion."""
    x, y = rows(600, seed=1)
    alerting = at_capacity(model, x[y == 0], 0.05)
    x, y = x[y == 1], y[y == 1]
    caught = alerting(x).argmax(1) == 1
    x_adv = Enumerate()(alerting, x, y, threat)
    return float(caught.float().mean()), float((alerting(x_adv).argmax(1) == 1).float().mean())


def test_the_constraints_are_read_off_the_prices():
    assert constraints(THREAT) == (0, 0, -1, 1)
    assert moved_cheaply(THREAT) == (1,)
    assert constraints(FeatureThreat(SPEC, 10.0)) == (0, 0, 0, 1)
    assert moved_cheaply(FeatureThreat(SPEC, 10.0)) == (1, 2)
    assert moved_cheaply(FeatureThreat(SPEC, 0.05)) == ()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_closed_booster_cannot_be_evaded_and_an_ordinary_one_can(library):
    pytest.importorskip(library)
    x, y = rows()
    recipe = partial(BoostingRecipe, library, rounds=30)
    plain = harden_boosting(x, y, THREAT, recipe(open_rounds=30, monotone=False))
    closed = harden_boosting(x, y, THREAT, recipe())
    clean, robust = recall(plain, THREAT)
    assert robust < 0.5 * clean
    clean, robust = recall(closed, THREAT)
    assert robust == clean > 0.1
    assert len(split_points(closed, 4)[1]) == 0  # the system is free, and not looked at
    assert len(split_points(closed, 4)[2]) == 1  # the phone is


@pytest.mark.parametrize("library", LIBRARIES)
def test_open_rounds_lie_between_and_go_on_from_the_closed_ones(library):
    pytest.importorskip(library)
    x, y = rows()
    opened = harden_boosting(x, y, THREAT, BoostingRecipe(library, rounds=34, open_rounds=4))
    closed = harden_boosting(x, y, THREAT, BoostingRecipe(library, rounds=30))
    clean, robust = recall(opened, THREAT)
    assert 0.1 < robust < min(clean, recall(closed, THREAT)[1])
    assert len(split_points(opened, 4)[1]) > 0


@pytest.mark.parametrize("library", LIBRARIES)
def test_retraining_on_the_cheapest_evasions_holds_more(library):
    pytest.importorskip(library)
    x, y = rows()
    recipe = partial(BoostingRecipe, library, rounds=30, open_rounds=30, monotone=False)
    plain = harden_boosting(x, y, THREAT, recipe())
    calls = []
    retrained = harden_boosting(
        x, y, THREAT, recipe(retrains=4, attacked=200), attack=lambda *_: Enumerate(),
        progress=lambda *done: calls.append(done),
    )  # fmt: skip
    assert recall(retrained, THREAT)[1] > recall(plain, THREAT)[1] + 0.1
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_same_seed_gives_the_same_booster_and_the_default_search_runs():
    pytest.importorskip("xgboost")
    x, y = rows(300)
    recipe = BoostingRecipe(rounds=6, open_rounds=6, retrains=1, attacked=20)
    one, two = (harden_boosting(x, y, THREAT, recipe, seed=3) for _ in range(2))
    assert torch.equal(one(x), two(x))


def test_wrong_use_is_said():
    x, _ = rows(10)
    with pytest.raises(DataError, match="rows of class 0 and 1"):
        harden_boosting(x, torch.ones(10, dtype=torch.int64), THREAT, BoostingRecipe())
    with pytest.raises(UsageError, match="open_rounds <= rounds"):
        BoostingRecipe(rounds=3, open_rounds=4)
    with pytest.raises(UsageError, match="xgboost or lightgbm"):
        BoostingRecipe("catboost")  # type: ignore[arg-type]
