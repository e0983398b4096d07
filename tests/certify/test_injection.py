"""Injections into a history, against every set of additions tried."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.certify.injection import least_injection, listed
from buckler.errors import DataError, UsageError


def tried(weights, history, target, top, allowed):
    """The size of the smallest set that works, by trying all; None if none does."""
    for k in range(len(allowed) + 1):
        for items in combinations(allowed, k):
            after = history.copy()
            after[list(items)] += 1
            if listed(weights, after, target, top):
                return k
    return None


@st.composite
def markets(draw):
    m = draw(st.integers(3, 8))
    values = st.lists(st.integers(-4, 6), min_size=m * m, max_size=m * m)
    weights = np.array(draw(values), float).reshape(m, m)
    history = np.array(draw(st.lists(st.integers(0, 1), min_size=m, max_size=m)), float)
    target = draw(st.integers(0, m - 1))
    history[target] = 0
    top = draw(st.integers(1, 3))
    allowed = [i for i in range(m) if history[i] == 0 and i != target]
    return weights, history, target, top, allowed


@settings(max_examples=150, deadline=None)
@given(markets())
def test_the_fewest_are_the_fewest(market):
    weights, history, target, top, _ = market
    found, truth = least_injection(weights, history, target, top=top), tried(*market)
    assert found.exact
    assert found.possible == (truth is not None)
    if truth is None:
        assert found.items == ()
        return
    assert len(found.items) == found.least == truth
    after = history.copy()
    after[list(found.items)] += 1
    assert listed(weights, after, target, top)


@settings(max_examples=60, deadline=None)
@given(markets())
def test_without_time_the_bound_is_under_the_truth(market):
    weights, history, target, top, _ = market
    found, truth = least_injection(weights, history, target, top=top, seconds=0), tried(*market)
    assert truth is None or found.least <= truth
    assert found.items == ()


def test_ties_go_against_the_attacker_and_what_is_seen_is_not_listed():
    weights = np.zeros((3, 3))
    weights[0] = [0, 1, 1]
    history = np.array([1.0, 0, 0])
    assert not listed(weights, history, 1, 1)
    assert listed(weights, history, 1, 2)
    assert not listed(weights, history, 0, 3)


def test_a_rival_leaves_the_list_by_being_added():
    weights = np.zeros((3, 3))
    weights[0, 2] = 5.0
    found = least_injection(weights, np.array([1.0, 0, 0]), 1, top=1)
    assert found.items == (2,)
    assert found.exact
    assert least_injection(weights, np.array([1.0, 0, 0]), 1, top=1, allowed=()).possible is False


def test_many_items_with_rivals_that_join_later():
    """More rivals than the first program has; the answer is checked by `listed` and the bound."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (120, 120))
    history = np.zeros(120)
    history[:5] = 1
    found = least_injection(weights, history, 60, top=3, allowed=range(5, 40))
    assert found.possible
    assert found.exact
    assert found.least == len(found.items)
    after = history.copy()
    after[list(found.items)] += 1
    assert listed(weights, after, 60, 3)


@pytest.mark.parametrize(
    ("weights", "changes", "error", "sentence"),
    [
        (np.zeros((3, 2)), {}, DataError, r"\(3, 3\).*Got \(3, 2\)"),
        (np.full((3, 3), np.nan), {}, DataError, "must be finite"),
        (np.zeros((3, 3)), {"target": 3}, UsageError, "0 to 2"),
        (np.zeros((3, 3)), {"top": 0}, UsageError, "top at least 1"),
        (np.zeros((3, 3)), {"allowed": [7]}, UsageError, "allowed items must be 0 to 2"),
    ],
)
def test_bad_input(weights, changes, error, sentence):
    with pytest.raises(error, match=sentence):
        least_injection(weights, np.zeros(3), **{"target": 0, **changes})
