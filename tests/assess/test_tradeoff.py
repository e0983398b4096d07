"""The guard at several thresholds: more review, fewer accepted wrong answers, attacked anew."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from buckler.assess import Ledger
from buckler.assess.tradeoff import counts, tradeoff
from buckler.guard import calibrate
from buckler.guard.rule import Thresholds
from buckler.threats import LpBall

from .test_check import ledger


@pytest.fixture(scope="module")
def found(dataset, trained):
    guard = calibrate(dataset, [trained], [1.0], review_rate=0.1)
    test = dataset["test"]
    x, y = test.x[:40], test.y[:40]
    static = (x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(
        0, 1
    )
    threat = LpBall("linf", 0.12)
    return tradeoff(guard, x, y, static, threat, rows=torch.arange(40), steps=15)


def test_its_own_rate_stands_among_the_others(found):
    asked = [point["asked"] for point in found["points"]]
    assert asked == sorted(asked)
    assert asked[0] == 0.0
    assert found["own"] in asked


def test_more_review_lets_less_past_and_flags_more(found):
    points = found["points"]
    review = [point["rates"]["review_rate"]["k"] for point in points]
    broken = [point["rates"]["success"]["k"] for point in points]
    assert review == sorted(review)
    assert review[0] == 0
    assert broken[-1] <= broken[0]
    assert broken[0] > 0  # the threat is strong enough that there is something to stop


def test_what_is_stopped_is_counted_among_rows_that_can_be_turned(found):
    for point in found["points"]:
        stopped, broken = point["stopped"], point["rates"]["success"]["k"]
        assert stopped["n"] == found["turned"]
        assert stopped["k"] == found["turned"] - broken


def test_the_halves_are_all_rows_once(found):
    for point in found["points"]:
        missed = [half["missed"] for half in point["halves"]]
        assert sum(k for k, _ in missed) == point["rates"]["success"]["k"]
        assert sum(n for _, n in missed) == point["rates"]["success"]["n"]


def test_thresholds_by_hand_are_not_moved(dataset, trained):
    guard = calibrate(dataset, [trained], [1.0], review_rate=0.1)
    guard = replace(guard, rule=Thresholds((0.5,), 0))
    x, y = dataset["test"].x[:4], dataset["test"].y[:4]
    empty = tradeoff(guard, x, y, x, LpBall("linf", 0.1), rows=torch.arange(4))
    assert empty["points"] == []


def test_counts_of_a_ledger_worked_by_hand():
    """Four rows: broken, held and answered, held and sent to review, wrong at first and flagged."""
    book = Ledger(
        row=np.arange(4),
        y=np.zeros(4, dtype=int),
        prediction_before=np.array([0, 0, 0, 1]),
        accepted_before=np.array([True, True, True, False]),
        prediction_after=np.array([1, 0, 1, 1]),
        accepted_after=np.array([True, True, False, False]),
        broken_by=np.array(["PGD", "", "", ""]),
        on_grid=np.zeros(4, dtype=bool),
        distance=np.zeros(4),
    )
    found = counts(book)
    assert (found.missed, found.flagged_attacks, found.flagged_clean) == ((1, 3), (1, 3), (1, 4))
    assert counts(ledger(broken=20)).missed == (20, 396)
