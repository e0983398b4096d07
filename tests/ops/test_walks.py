"""Walks towards a threshold: the trend test against all orders; honest clients by the hundred."""

import itertools
import random

import pytest

from buckler.errors import UsageError
from buckler.ops.walks import WalkRule, Walks, falling_p


def test_the_p_is_that_of_all_orders_of_six():
    """By enumeration: the normal law with continuity is within 0.02 there."""

    def s(order):
        pairs = itertools.combinations(order, 2)
        return sum((b < a) - (b > a) for a, b in pairs)

    every = [s(order) for order in itertools.permutations(range(6))]
    for order in ((5, 4, 3, 2, 1, 0), (5, 4, 2, 3, 1, 0), (3, 5, 4, 1, 2, 0)):
        exact = sum(each >= s(order) for each in every) / len(every)
        assert falling_p(list(order)) == pytest.approx(exact, abs=0.02)
    assert falling_p([1, 1, 1, 1]) == falling_p([1, 2, 3]) == 1.0


def step(walks, client, number, score):
    return walks.saw(client, (100.0, number % 3, number, 7.0), (1 - score, score))


def test_a_walk_is_seen_at_its_eighth_step_and_nothing_before():
    walks = Walks()
    found = [step(walks, "a", number, 0.99 - 0.03 * number) for number in range(8)]
    assert [each is not None for each in found] == [False] * 7 + [True]
    assert (found[-1].client, found[-1].length) == ("a", 8)
    assert found[-1].p <= 1e-3


def test_what_is_sent_again_does_not_count_and_others_are_others():
    walks = Walks()
    for number in range(7):
        for _ in range(3):
            assert step(walks, "a", number, 0.99 - 0.03 * number) is None
        assert step(walks, "b", 50 + number, 0.9) is None
    assert step(walks, "b", 80, 0.2) is None
    assert step(walks, "a", 9, 0.1) is not None


def test_unlike_applications_are_no_walk():
    walks = Walks()
    for number in range(40):
        row = [float(number * 10 + at) for at in range(8)]
        assert walks.saw("a", row, (number / 40, 1 - number / 40)) is None


def test_honest_clients_are_called_walkers_as_seldom_as_is_said():
    """500 clients of 32 near-equal applications in random order, alpha 0.02: at most 20 expected
    1 time in 1000 (binomial, 500 x 0.02 = 10)."""
    draw, called = random.Random(0), 0
    walks = Walks(WalkRule(alpha=0.02))
    for client in range(500):
        called += any(step(walks, str(client), n, draw.random()) is not None for n in range(32))
    assert called <= 20


def test_memory_is_bounded_and_wrong_rules_are_refused():
    walks = Walks(WalkRule(memory=8, clients=2))
    for client in "abc":
        for number in range(60):
            walks.saw(client, (float(number), 10.0 * number, -number, 3.0 * number), (0.5, 0.5))
    assert len(walks._clients) == 2
    assert all(known.rows <= 16 for known in walks._clients.values())
    with pytest.raises(UsageError, match="first <= memory"):
        WalkRule(first=4)
    with pytest.raises(UsageError, match="alpha"):
        WalkRule(alpha=0.0)
