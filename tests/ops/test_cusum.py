"""Average run lengths: closed forms, tables, dense algebra and simulation say the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.errors import UsageError
from buckler.ops.cusum import Chart, Run, chart, run, run_length, whole

CLEAN, SHIFTED = (0.99, 0.01), (0.973, 0.027)


def dense(weights, rates, limit):
    """The chain written out: (I − Q) L = 1."""
    moves = np.zeros((limit, limit))
    for state in range(limit):
        for weight, rate in zip(weights, rates, strict=True):
            to = max(0, state + weight)
            if to < limit:
                moves[state, to] += rate
    return float(np.linalg.solve(np.eye(limit) - moves, np.ones(limit))[0])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_run_of_successes_is_known_in_closed_form(p, limit):
    """+1 or back to 0: `limit` successes in a row take (p^-limit − 1) / (1 − p) rows."""
    found = run_length((1, -limit), (p, 1 - p), limit)
    assert found == pytest.approx((p**-limit - 1) / (1 - p), rel=1e-9)


@pytest.mark.parametrize("limit", [1, 3, 10, 40])
def test_a_fair_walk_is_known_in_closed_form(limit):
    """From 0, kept there by half of its steps, it takes limit · (limit + 1) rows."""
    assert run_length((1, -1), (0.5, 0.5), limit) == pytest.approx(limit * (limit + 1))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-9, 9), min_size=2, max_size=5).filter(lambda w: min(w) < 0 < max(w)),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_the_band_is_the_chain(weights, limit, seed):
    rates = np.random.default_rng(seed).dirichlet(np.ones(len(weights)))
    expected, found = dense(weights, rates, limit), run_length(weights, rates, limit)
    if 0 < expected < 1e9:  # beyond, both are mostly rounding
        assert found == pytest.approx(expected, rel=1e-6)
    else:
        assert found > 1e8


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2), max_size=200),
    st.lists(st.integers(1, 50), max_size=5),
    st.integers(1, 30),
)
def test_batches_are_the_recursion_row_by_row(rows, cuts, limit):
    made = Chart((-2, 1, 5), limit, 1.0)
    at, since, hits, expected = 0, 0, 0, []
    for row in rows:
        at = max(0, at + made.weights[row])
        since, hits = (0, 0) if at == 0 else (since + 1, hits + (made.weights[row] > 0))
        if at >= limit:
            expected.append((since, hits))
            at = since = hits = 0
    state, found = Run(0, 0, 0), []
    for part in np.split(np.array(rows, np.int64), sorted(min(c, len(rows)) for c in cuts)):
        state = run(made, state, part)
        found += [alarm[1:] for alarm in state.alarms]
    assert (state.at, state.rows, state.hits) == (at, since, hits)
    assert found == expected


def test_the_threshold_is_the_least_that_keeps_the_promise():
    made = chart(CLEAN, SHIFTED, 1e6)
    assert made.weights == (-1, 57)
    assert made.arl >= 1e6
    assert run_length(made.weights, CLEAN, made.limit - 1) < 1e6
    assert 650 < run_length(made.weights, SHIFTED, made.limit) < 800


@pytest.mark.parametrize(
    ("null", "shifted"),
    [
        (CLEAN, SHIFTED),
        ((0.9, 0.1), (0.95, 0.05)),
        ((0.5, 0.5), (0.4, 0.6)),
        ((0.99, 0.0075, 0.0025), (0.973, 0.012, 0.015)),
    ],
)
def test_simulated_rows_to_an_alarm(null, shifted):
    """500 runs or so: a mean 4 standard errors off is chance in one of 15,000 such tests."""
    made = chart(null, shifted, 1000)
    rows = np.random.default_rng(0).choice(len(null), 500_000, p=null)
    found = run(made, Run(0, 0, 0), rows)
    gaps = np.diff([-1, *(row for row, _, _ in found.alarms)])
    assert len(gaps) > 400
    assert gaps.mean() == pytest.approx(made.arl, abs=4 * gaps.std() / len(gaps) ** 0.5)


def test_an_alarm_tells_since_when_and_how_many():
    made = Chart((-1, 3), 6, 1.0)
    assert run(made, Run(0, 0, 0), np.array([0, 0, 1, 0, 1, 1, 0])).alarms == ((5, 4, 3),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (((1.0, 0.0), SHIFTED, 1e6), "null must be probabilities above 0 that sum to 1"),
        ((CLEAN, (0.5, 0.4), 1e6), "shifted must be probabilities above 0 that sum to 1"),
        ((CLEAN, SHIFTED, 1.0), "arl must be a number of rows between 1 and 1e13. Got 1"),
        (((0.5, 0.5), (0.4999, 0.5001), 1e9), "shifted must differ more from null"),
    ],
)
def test_what_no_chart_can_be_made_of(given, said):
    with pytest.raises(UsageError, match=said):
        chart(*given)


def test_what_never_comes_is_infinite():
    assert run_length((-1, 50), (0.999_99, 0.000_01), 800) == np.inf
    assert run_length((-1, 1), (0.99, 0.01), 2000) == np.inf


def test_whole_numbers_keep_proportions():
    assert whole([-0.5, 0.25], [0.5, 0.5]) == (-2, 1)
    assert whole([0.0, -1.0, 2.5], [0.2, 0.4, 0.4]) == (0, -2, 5)
    ratios, rates = np.linspace(-1, 0.9, 10), np.full(10, 0.1)
    weights = np.array(whole(ratios, rates))
    assert abs(weights / weights[0] * ratios[0] - ratios).mean() <= 0.01 * abs(ratios).mean()
