"""Thresholds at a fixed number of alerts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from buckler.errors import UsageError
from buckler.models.alerts import Alerting, at_capacity, base_rate_weights, threshold_at


def of_scores(x):
    """Log-odds of class 1: the first column."""
    return torch.stack([x[:, 0] * 0, x[:, 0]], 1)


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.9]),
)
def test_no_more_alerts_than_fit_and_no_lower_threshold_does(scores, share):
    values = torch.tensor(scores).float()
    found = threshold_at(values, share)
    assert (values > found).float().mean() <= share + 1e-6
    lower = values[values < found]
    if len(lower):
        assert (values > lower.max()).float().mean() > share


def test_weights_count_rows_several_times():
    scores = torch.tensor([1.0, 2.0, 3.0])
    weights = torch.tensor([3.0, 1.0, 2.0])
    repeated = torch.tensor([1.0, 1, 1, 2, 3, 3])
    for share in (0.1, 0.35, 0.5, 0.6):
        assert threshold_at(scores, share, weights) == threshold_at(repeated, share)


def test_an_alert_is_answer_one_above_the_threshold():
    x = torch.arange(20.0)[:, None]
    model = at_capacity(of_scores, x, 0.1)
    assert model(x).argmax(1).nonzero()[:, 0].tolist() == [18, 19]
    assert torch.allclose(model.score(x), x[:, 0])


def test_base_rate_weights_restore_the_base_rate():
    y = torch.tensor([1, 1, 0, 0, 0])
    weights = base_rate_weights(y, 0.01)
    assert float(weights[y == 1].sum() / weights.sum()) == pytest.approx(0.01)
    assert float(weights.mean()) == pytest.approx(1.0)


def test_what_cannot_be_is_said():
    with pytest.raises(UsageError, match="share in \\[0, 1\\)"):
        threshold_at(torch.ones(3), 1.0)
    with pytest.raises(UsageError, match="rows of both classes"):
        base_rate_weights(torch.ones(3, dtype=torch.int64), 0.01)
    with pytest.raises(UsageError, match="two classes"):
        Alerting(lambda x: torch.zeros(len(x), 3))(torch.zeros(2, 1))
