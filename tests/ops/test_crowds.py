"""Crowds too alike, against cosines one by one and campaigns that were planted."""

import json

import numpy as np
import pytest

from buckler.errors import DataError, UsageError
from buckler.ops.crowds import FEWEST, Usual, alike, crowds

ITEMS, POPULAR = 400, 40


def market(users: int, seed: int) -> np.ndarray:
    """Five tastes over items of falling popularity; (users, items) bool."""
    tastes = np.random.default_rng(0).normal(0, 1, (5, ITEMS))
    weights = np.exp(tastes) / np.arange(1, ITEMS + 1) ** 0.5
    rng = np.random.default_rng(seed)
    found = np.zeros((users, ITEMS), bool)
    for row in found:
        p = weights[rng.integers(5)]
        row[rng.choice(ITEMS, rng.integers(20, 50), replace=False, p=p / p.sum())] = True
    return found


def with_campaign(profiles: np.ndarray, target: int, count: int, seed: int) -> np.ndarray:
    """Fakes that have the target and thirty of the most popular items."""
    rng = np.random.default_rng(seed)
    popular = np.argsort(-profiles.sum(0))[:POPULAR]
    fakes = np.zeros((count, ITEMS), bool)
    for row in fakes:
        row[rng.choice(popular, 30, replace=False)] = True
    fakes[:, target] = True
    return np.concatenate([profiles, fakes])


@pytest.fixture(scope="module")
def usual() -> Usual:
    return Usual.of(market(600, 1))


def test_the_mean_cosine_is_that_of_all_pairs():
    profiles = market(40, 3)
    count, likeness = alike(profiles)
    for item in range(0, ITEMS, 37):
        rows = profiles[profiles[:, item]].astype(float)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        unit[:, item] = 0
        n = len(rows)
        assert count[item] == n
        gram = unit @ unit.T
        mean = (gram.sum() - np.trace(gram)) / (n * (n - 1)) if n > 1 else 0.0
        assert likeness[item] == pytest.approx(mean, abs=1e-5)


def test_clean_items_raise_no_more_alarms_than_asked(usual):
    shares = []
    for seed in range(10, 16):
        clean = market(600, seed)
        judged = (clean.sum(0) >= FEWEST).sum()
        shares.append(len(crowds(usual, clean, 0.05)) / judged)
    assert np.mean(shares) < 0.08


def test_a_campaign_is_the_first_alarm(usual):
    clean = market(600, 20)
    target = int(np.argsort(clean.sum(0))[30])
    assert target not in {crowd.item for crowd in crowds(usual, clean)}
    found = crowds(usual, with_campaign(clean, target, 30, 0))
    assert found[0].item == target
    assert found[0].p <= 0.01
    assert found[0].raters >= 30


def test_p_values_are_those_of_the_band(usual):
    band = usual.bands[0]
    assert usual.p(FEWEST, band[-1] + 1) == 1 / (len(band) + 1)
    assert usual.p(FEWEST, band[0] - 1) == 1
    assert usual.p(10**9, 2.0) == 1 / (len(usual.bands[-1]) + 1)


def test_a_reference_survives_json(usual):
    assert Usual.from_dict(json.loads(json.dumps(usual.to_dict()))) == usual


def test_bad_input(usual):
    with pytest.raises(DataError, match=r"\(users, items\). Got \(3,\)"):
        alike(np.zeros(3))
    with pytest.raises(DataError, match=r"needs 150 items of at least 5 raters\. Got 0"):
        Usual.of(np.zeros((9, 9)))
    with pytest.raises(UsageError, match=r"as the reference tells\. Got 0\.0001"):
        crowds(usual, market(10, 0), 0.0001)
