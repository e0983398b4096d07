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


def with_campaign(
    profiles: np.ndarray, target: int, count: int, seed: int, made: str
) -> np.ndarray:
    """Fakes that have the target, and thirty popular items, thirty of any, or a real user's."""
    rng = np.random.default_rng(seed)
    pool = np.argsort(-profiles.sum(0))[: POPULAR if made == "popular" else ITEMS]
    fakes = np.zeros((count, ITEMS), bool)
    for row in fakes:
        row[rng.choice(pool, 30, replace=False)] = True
    if made == "copied":
        fakes = profiles[rng.integers(len(profiles), size=count)].copy()
    fakes[:, target] = True
    return np.concatenate([profiles, fakes])


@pytest.fixture(scope="module")
def usual() -> Usual:
    return Usual.of(*(market(600, seed) for seed in range(1, 5)))


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
        before, clean = market(600, 100 + seed), market(600, seed)
        judged = (clean.sum(0) >= FEWEST).sum()
        shares.append(len(crowds(usual, before, clean, 0.05)) / judged)
    assert np.mean(shares) < 0.08


@pytest.mark.parametrize(
    ("made", "sign"), [("popular", "alike"), ("random", "unlike"), ("copied", "grown")]
)
def test_a_campaign_is_found(usual, made, sign):
    before, clean = market(600, 21), market(600, 20)
    target = int(np.argsort(clean.sum(0))[30])
    assert target not in {crowd.item for crowd in crowds(usual, before, clean)}
    found = crowds(usual, before, with_campaign(clean, target, 60, 0, made))
    (crowd,) = (crowd for crowd in found if crowd.item == target)
    assert crowd.p <= 0.01
    assert crowd.raters >= 60
    assert crowd.sign in (sign, "grown")


def test_growth_is_counted_against_windows_of_other_lengths(usual):
    clean = market(600, 30)
    twice = np.concatenate([market(600, 31), market(600, 32)])
    judged = (clean.sum(0) >= FEWEST).sum()
    assert len(crowds(usual, twice, clean, 0.05)) / judged < 0.12


def test_a_reference_survives_json(usual):
    assert Usual.from_dict(json.loads(json.dumps(usual.to_dict()))) == usual


def test_bad_input(usual):
    with pytest.raises(DataError, match=r"\(users, items\). Got \(3,\)"):
        alike(np.zeros(3))
    with pytest.raises(DataError, match=r"needs 150 items of at least 5 raters\. Got 0"):
        Usual.of(np.zeros((9, 9)), np.zeros((9, 9)))
    with pytest.raises(DataError, match=r"two windows or more\. Got 1"):
        Usual.of(np.zeros((9, 9)))
    with pytest.raises(UsageError, match=r"as the reference tells\. Got 0\.0001"):
        crowds(usual, market(10, 0), market(10, 1), 0.0001)
    with pytest.raises(DataError, match="both windows need the same items"):
        crowds(usual, np.zeros((9, 8)), np.zeros((9, 9)))
