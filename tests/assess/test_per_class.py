"""Rates class by class, against counts by hand."""

import numpy as np
import pytest

from buckler.assess.ledger import Ledger
from buckler.assess.per_class import balanced_accuracy, per_class
from buckler.errors import DataError

WELL, ILL = 0, 1


def ledger(y, before, accepted_before, after, accepted_after) -> Ledger:
    n = len(y)
    broken = (np.array(after) != y) & np.array(accepted_after) & (np.array(before) == y)
    return Ledger(
        row=np.arange(n),
        y=np.array(y),
        prediction_before=np.array(before),
        accepted_before=np.array(accepted_before, bool),
        prediction_after=np.array(after),
        accepted_after=np.array(accepted_after, bool),
        broken_by=np.where(broken, "pgd", ""),
        on_grid=np.ones(n, bool),
        distance=np.zeros(n),
    )


FOUR_WELL_FIVE_ILL = ledger(
    y=[0, 0, 0, 0, 1, 1, 1, 1, 1],
    before=[0, 0, 0, 1, 1, 1, 1, 0, 0],
    accepted_before=[1, 1, 0, 1, 1, 1, 1, 1, 0],
    after=[0, 1, 0, 1, 0, 1, 1, 0, 0],
    accepted_after=[1, 1, 0, 1, 1, 0, 1, 1, 0],
)


def counts(rows):
    return [
        tuple(round(r.value * r.n) for r in (row.found, row.missed, row.referred, row.false_alarm))
        for row in rows
    ]


def test_each_kind_of_answer_is_counted_for_its_class() -> None:
    rows = per_class(FOUR_WELL_FIVE_ILL, ("well", "ill"), attacked=False)
    assert counts(rows) == [(2, 1, 1, 1), (3, 1, 1, 1)]
    assert [row.name for row in rows] == ["well", "ill"]
    assert balanced_accuracy(rows) == pytest.approx((2 / 4 + 3 / 5) / 2)


def test_under_attack_it_is_the_answers_to_what_attackers_found() -> None:
    rows = per_class(FOUR_WELL_FIVE_ILL, ("well", "ill"), attacked=True)
    assert counts(rows) == [(1, 2, 1, 2), (1, 2, 2, 2)]


def test_found_missed_and_referred_are_all() -> None:
    for attacked in (False, True):
        for row in per_class(FOUR_WELL_FIVE_ILL, ("well", "ill"), attacked):
            assert row.found.value + row.missed.value + row.referred.value == pytest.approx(1)
            assert row.found.low <= row.found.value <= row.found.high


def test_a_class_without_rows_is_named() -> None:
    with pytest.raises(DataError, match="Got 0 of 9 rows for 'worse'"):
        per_class(FOUR_WELL_FIVE_ILL, ("well", "ill", "worse"), attacked=False)
