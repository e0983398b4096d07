"""The cheapest review rate: by hand, in closed form, and against every threshold tried."""

import math

import numpy as np
import pytest

from buckler.errors import UsageError
from buckler.guard.costs import Costs, cheapest


def test_by_hand() -> None:
    """Two of four attacked rows fool the guard, at scores 3 and 5; clean rows score 1 to 4.

    Flagging above 2 costs 2 of 4 clean reviews and 3 of 4 attacked, and nothing fools:
    0.5 · 0.5 + 0.5 · 0.75 = 0.625. Above 4: 0 + 0.5 · (0.25 + 10 · 0.25) = 1.375.
    """
    costs = Costs(review=1, wrong=10, attack_share=0.5)
    found = cheapest(costs, [1, 2, 3, 4], [False] * 4, [3, 5, 2, 6], [True, True, False, False])
    assert found.threshold == 2
    assert found.review_rate == 0.5
    assert found.cost == pytest.approx(0.625)
    assert found.without == pytest.approx(0.5 * 10 * 0.5)


def test_a_wrong_clean_answer_costs_as_well() -> None:
    costs = Costs(review=1, wrong=10, attack_share=0.0)
    found = cheapest(costs, [1, 2, 3], [False, False, True], [0.0], [False])
    assert found.threshold == 2
    assert found.cost == pytest.approx(1 / 3)
    assert found.without == pytest.approx(10 / 3)


def expected_cost(costs: Costs, t: float, clean: np.ndarray, attacked: np.ndarray) -> float:
    p = costs.attack_share
    flagged = (1 - p) * (clean > t).mean() + p * (attacked > t).mean()
    return float(costs.review * flagged + costs.wrong * p * (attacked <= t).mean())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("wrong", [0.0, 1.0, 25.0])
def test_no_threshold_is_cheaper(share: float, wrong: float) -> None:
    """Every threshold that tells rows apart, with ties, against the formula."""
    rng = np.random.default_rng(0)
    costs = Costs(review=1.0, wrong=wrong, attack_share=share)
    clean, attacked = rng.normal(size=60).round(1), rng.normal(1.5, 1, size=40).round(1)
    found = cheapest(costs, clean, np.zeros(60, bool), attacked, np.ones(40, bool))
    every = [-math.inf, *np.unique(np.concatenate([clean, attacked])), math.inf]
    tried = [expected_cost(costs, t, clean, attacked) for t in every]
    assert found.cost == pytest.approx(min(tried))
    assert expected_cost(costs, found.threshold, clean, attacked) == pytest.approx(min(tried))
    assert found.review_rate == (clean > found.threshold).mean()
    same = [t for t, cost in zip(every, tried, strict=True) if cost <= min(tried) + 1e-12]
    assert (clean > max(same)).mean() == found.review_rate, "of several, the one that flags least"


def test_the_closed_form_of_two_normals() -> None:
    """Clean N(0, 1), attacked and always wrong N(2, 1): the likelihood ratio e^(2s − 2) meets
    (1 − p) c_r / (p (c_w − c_r)) at t = 1 + ln(ratio) / 2.

    200,000 rows a kind; the cost is flat at its least, so the threshold is known to about 0.1 and
    the cost to 1 %.
    """
    costs, n = Costs(review=1.0, wrong=21.0, attack_share=0.01), 200_000
    rng = np.random.default_rng(1)
    clean, attacked = rng.normal(size=n), rng.normal(2, 1, size=n)
    found = cheapest(costs, clean, np.zeros(n, bool), attacked, np.ones(n, bool))
    t = 1 + math.log(0.99 / (0.01 * 20)) / 2
    assert found.threshold == pytest.approx(t, abs=0.15)
    assert found.cost == pytest.approx(expected_cost(costs, t, clean, attacked), rel=0.01)


@pytest.mark.parametrize(
    ("review", "wrong", "rate"),
    [(1.0, 0.0, 0.0), (0.0, 1.0, 0.75)],
    ids=["reviews cost and mistakes do not", "mistakes cost and reviews do not"],
)
def test_the_ends(review: float, wrong: float, rate: float) -> None:
    costs = Costs(review=review, wrong=wrong, attack_share=0.5)
    found = cheapest(costs, [1, 2, 3, 4], [False] * 4, [1.5, 2.5], [True, True])
    assert found.review_rate == rate
    assert found.rate_for(9) == (0.1 if rate == 0 else 0.75)


def test_everything_to_review_is_still_a_rate_rows_can_give() -> None:
    found = cheapest(Costs(1, 100, 1.0), [5.0], [False], [1.0], [True])
    assert (found.threshold, found.review_rate) == (-math.inf, 1.0)
    assert found.rate_for(9) == 0.9


@pytest.mark.parametrize("bad", [(-1, 1, 0.1), (1, math.nan, 0.1), (1, 1, 1.5), (math.inf, 1, 0)])
def test_costs_that_cannot_be_are_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match=r"costs: (review|wrong|attack_share) must be .*\. Got"):
        Costs(*bad)


@pytest.mark.parametrize("attacked", [([], []), ([1.0], [True, False]), ([math.nan], [True])])
def test_rows_that_cannot_be_are_refused(attacked: tuple[list[float], list[bool]]) -> None:
    with pytest.raises(UsageError, match="the attacked rows need one finite score"):
        cheapest(Costs(1, 1, 0.1), [1.0], [False], *attacked)
