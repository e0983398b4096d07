"""Scores of tables: what no row may hold, what few rows hold."""

from dataclasses import replace

import pytest
import torch

from buckler.detectors import Constraints, Density, fit_detector, load_detector
from buckler.errors import UsageError
from buckler.testing import toy_features
from tests.threats.features import shop


def of(x):
    return toy_features((x.shape[1],))(x)


def test_rows_that_keep_everything_score_nothing_and_others_by_how_much_they_break():
    detector = Constraints.of(shop.SPEC)
    clean = shop.rows(50)
    assert detector.score(of(clean)).tolist() == [0.0] * len(clean)
    rows = clean[:1].repeat(4, 1)
    parts = len(shop.SPEC.features) + len(shop.SPEC.rules)
    rows[:, 1], rows[:, 2] = 9.0, 1.0
    rows[1, 1], rows[1, 2] = 0.0, 3.0  # mails <= age is broken
    rows[2, 0] = 600.0  # over its range
    rows[3, 0] = 5000.0  # by more
    found = detector.score(of(rows)) * parts
    assert found[0] == 0
    assert found[1] == pytest.approx(1.0)
    assert 1.0 < found[2] < found[3] < 2.0


def test_density_is_low_where_no_row_was():
    x = shop.rows(400)
    detector = Density.fit(of(x))
    odd = x[:1].clone()
    odd[0, 1] = 400.0
    likely = detector.score(of(x))
    assert torch.isfinite(detector.score(of(odd))).all()
    assert detector.score(of(odd)) > likely[0]
    rare = x.clone()
    rare[:, 5] = (torch.arange(len(x)) == 0).float()  # one row in all
    detector = Density.fit(of(rare))
    scores = detector.score(of(rare))
    assert scores[0] > scores[1:].median()


@pytest.mark.parametrize("name", ["constraints", "density"])
def test_they_come_back_from_their_state(name):
    x = shop.rows(100)
    y = torch.zeros(len(x)).numpy()
    detector = fit_detector(name, of(x), y, table=shop.SPEC)
    again = load_detector(name, detector.state())
    assert torch.equal(detector.score(of(x)), again.score(of(x)))


def test_constraints_need_a_spec():
    x = shop.rows(10)
    with pytest.raises(UsageError, match="needs the feature spec"):
        fit_detector("constraints", of(x), torch.zeros(len(x)).numpy())
    with pytest.raises(UsageError, match="predicate"):
        Constraints.of(replace(shop.SPEC, predicate=lambda table: True))
