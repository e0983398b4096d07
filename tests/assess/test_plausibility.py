"""A figure that is too good raises an alarm, an honest one does not."""

import pytest

from buckler.assess.plausibility import beyond_known, plausible
from buckler.stats import wilson


def test_a_guard_may_not_beat_its_members_at_half_the_radius():
    honest = plausible(wilson(90, 1000), 0.99, wilson(30, 1000), 0.99)
    assert not honest.raised
    assert honest.figure == pytest.approx(0.99 * 0.91)
    masked = plausible(wilson(5, 1000), 0.99, wilson(300, 1000), 0.99)
    assert masked.raised
    assert "expect a stronger attack" in masked.sentence


def test_few_rows_raise_no_alarm():
    """The lower end counts: ten rows prove nothing."""
    assert not plausible(wilson(0, 10), 1.0, wilson(3, 10), 1.0).raised
    assert plausible(wilson(0, 1000), 1.0, wilson(300, 1000), 1.0).raised


def test_the_best_published_figure_is_beaten_by_nobody_in_passing():
    found = beyond_known("mnist", "linf", 0.3, wilson(9990, 10000))
    assert found is not None
    assert found.raised
    found = beyond_known("mnist", "linf", 0.3, wilson(9400, 10000))
    assert found is not None
    assert not found.raised
    assert beyond_known("mnist", "linf", 0.2, wilson(9990, 10000)) is None
    assert beyond_known("own", "linf", 0.3, wilson(9990, 10000)) is None
