"""stats: against published tables, scipy's own intervals, and simulation."""

import re
from math import exp

import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest, multinomial

from buckler.stats import (
    _BETS,
    betting_e,
    clopper_pearson_lower,
    clopper_pearson_upper,
    conformal_p,
    conformal_p_ordered,
    conformal_threshold,
    split_e,
    wilson,
)

COUNTS = [(0, 1), (1, 1), (0, 10), (10, 10), (1, 29), (7, 20), (19, 20), (81, 263), (499, 1000)]


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_against_newcombes_table(k: int, n: int, low: float, high: float) -> None:
    rate = wilson(k, n)
    assert (rate.k, rate.n, rate.value) == (k, n, k / n)
    assert (round(rate.low, 4), round(rate.high, 4)) == (low, high)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [  # the same table, method 5: two-sided 95 %, that is 2.5 % a side
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_clopper_pearson_against_newcombes_table(k: int, n: int, low: float, high: float) -> None:
    assert round(clopper_pearson_lower(k, n, 0.025), 4) == low
    assert round(clopper_pearson_upper(k, n, 0.025), 4) == high


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("k", "n"), COUNTS)
def test_wilson_against_scipy(k: int, n: int, confidence: float) -> None:
    expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
    rate = wilson(k, n, confidence)
    assert rate.low == pytest.approx(expected.low, abs=1e-12)
    assert rate.high == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize(("k", "n"), COUNTS)
def test_clopper_pearson_against_scipy(k: int, n: int, alpha: float) -> None:
    low = binomtest(k, n, alternative="greater").proportion_ci(1 - alpha, method="exact").low
    high = binomtest(k, n, alternative="less").proportion_ci(1 - alpha, method="exact").high
    assert clopper_pearson_lower(k, n, alpha) == pytest.approx(low, abs=1e-12)
    assert clopper_pearson_upper(k, n, alpha) == pytest.approx(high, abs=1e-12)


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_the_ends_are_exact(n: int) -> None:
    assert wilson(0, n).low == 0.0
    assert wilson(n, n).high == 1.0
    assert clopper_pearson_lower(0, n, 0.01) == 0.0
    assert clopper_pearson_upper(n, n, 0.01) == 1.0
    assert clopper_pearson_lower(n, n, 0.01) == pytest.approx(0.01 ** (1 / n))


@pytest.mark.parametrize("p", [0.003, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("n", [5, 60])
def test_clopper_pearson_errs_at_most_alpha_of_the_time(n: int, p: float) -> None:
    """Exact: the sum of the probabilities of the counts whose bound is wrong."""
    k = range(n + 1)
    low_fails = sum(binom.pmf(i, n, p) for i in k if clopper_pearson_lower(i, n, 0.05) > p)
    high_fails = sum(binom.pmf(i, n, p) for i in k if clopper_pearson_upper(i, n, 0.05) < p)
    assert low_fails <= 0.05
    assert high_fails <= 0.05


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0), (1, -1)])
@pytest.mark.parametrize(
    "function",
    [
        wilson,
        lambda k, n: clopper_pearson_lower(k, n, 0.05),
        lambda k, n: clopper_pearson_upper(k, n, 0.05),
    ],
)
def test_impossible_counts_are_refused(function, k: int, n: int) -> None:
    with pytest.raises(ValueError, match=rf"needs 0 <= k <= n and n >= 1\. Got k={k}, n={n}"):
        function(k, n)


def test_conformal_p_by_hand() -> None:
    p = conformal_p([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.5, 4.0, 9.0])
    assert p.tolist() == [1.0, 1.0, 3 / 5, 2 / 5, 1 / 5]


def test_conformal_p_with_ties_and_any_order() -> None:
    assert conformal_p([3.0, 1.0, 3.0], [3.0]).tolist() == [3 / 4]


def test_a_score_that_is_no_number_is_the_most_suspicious() -> None:
    assert conformal_p([1.0, 2.0, 3.0], [float("nan")]).tolist() == [1 / 4]


def test_conformal_p_of_sorted_scores_is_the_same() -> None:
    rng = np.random.default_rng(3)
    calibration, scores = rng.normal(size=200).round(1), rng.normal(size=50).round(1)
    ordered = conformal_p_ordered(np.sort(calibration), scores)
    assert ordered.tolist() == conformal_p(calibration, scores.tolist()).tolist()


@pytest.mark.parametrize("n", [9, 50])
def test_conformal_p_is_super_uniform(n: int) -> None:
    """P(p <= a) <= a over calibration set and score together; 20,000 trials.

    The bound of 4 standard errors fails for a right implementation in fewer than 1 in 5,000 seeds
    over the five levels.
    """
    rng = np.random.default_rng(0)
    trials = 20_000
    scores = rng.normal(size=(trials, n + 1)).round(1)  # ties
    p = np.array([conformal_p(row[1:], row[:1])[0] for row in scores])
    for level in (0.01, 0.05, 0.1, 0.3, 0.7):
        slack = 4 * np.sqrt(level * (1 - level) / trials)
        assert (p <= level).mean() <= level + slack


@pytest.mark.parametrize(("n", "target"), [(19, 0.05), (99, 0.01), (200, 0.03), (360, 0.1)])
def test_conformal_threshold_keeps_its_word(n: int, target: float) -> None:
    """The flag rate given the calibration set is Beta: mean, 95 % bound, and the exact shape.

    4,000 calibration sets of uniform scores, whose flag rate is 1 − threshold; bounds of 5
    standard errors: a right implementation fails in fewer than 1 in 100,000 seeds.
    """
    rng = np.random.default_rng(1)
    trials = 4000
    found = [conformal_threshold(rng.random(n), target) for _ in range(trials)]
    rates = 1 - np.array([threshold.value for threshold in found])
    first = found[0]
    assert first.expected <= target + 1e-12
    assert first.expected > target - 1 / (n + 1)
    assert (first.n, first.target) == (n, target)
    above = round(first.expected * (n + 1))
    truth = beta(above, n + 1 - above)
    assert abs(rates.mean() - first.expected) < 5 * truth.std() / np.sqrt(trials)
    assert first.upper == pytest.approx(truth.ppf(0.95))
    assert abs((rates <= first.upper).mean() - 0.95) < 5 * np.sqrt(0.95 * 0.05 / trials)


def test_ties_only_lower_the_flag_rate() -> None:
    scores = [0.0] * 90 + [1.0] * 10
    threshold = conformal_threshold(scores, 0.05)
    assert threshold.value == 1.0
    assert not any(score > threshold.value for score in scores)


def test_the_threshold_is_the_smallest_that_keeps_the_target() -> None:
    threshold = conformal_threshold(list(range(1, 100)), 0.05)
    assert threshold.value == 95  # 4 of 99 lie above, (4 + 1) / 100 = 5 % expected
    assert threshold.expected == pytest.approx(0.05)


@pytest.mark.parametrize(("target", "need"), [(0.05, 19), (0.01, 99), (0.03, 33), (0.5, 1)])
def test_the_fewest_calibration_rows(target: float, need: int) -> None:
    conformal_threshold(range(need), target)
    with pytest.raises(
        ValueError, match=rf"needs at least {need} calibration rows\. Got {need - 1}"
    ):
        conformal_threshold(range(need - 1), target)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_an_impossible_review_rate_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match=r"a rate in \(0, 1\)\. Got"):
        conformal_threshold(range(100), target)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_calibration_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="needs finite scores"):
        conformal_threshold([1.0, 2.0, bad] * 10, 0.1)


def test_a_rate_just_below_one_still_has_a_threshold() -> None:
    threshold = conformal_threshold(range(10), 1 - 1e-12)
    assert threshold.value == 0
    assert threshold.upper < 1


@pytest.mark.parametrize(
    ("n", "target", "sentence"),
    [
        (
            10_000,
            0.007,
            "target 0.70 %, at most 0.85 % of clean inputs with 95 % confidence "
            "(n = 10,000 calibration rows)",
        ),
        (300, 0.01, "calibrated on 300 rows: at most 2.1 % with 95 % confidence; no finer claim"),
        (
            100_000,
            0.0005,  # two figures at least
            "target 0.050 %, at most 0.063 % of clean inputs with 95 % confidence "
            "(n = 100,000 calibration rows)",
        ),
    ],
)
def test_the_promise_in_words(n: int, target: float, sentence: str) -> None:
    assert conformal_threshold(range(n), target).sentence() == sentence


@pytest.mark.parametrize(("n", "says_target"), [(1999, False), (2000, True)])
def test_few_rows_promise_no_target(n: int, says_target: bool) -> None:
    sentence = conformal_threshold(range(n), 0.02).sentence()
    assert ("target" in sentence) == says_target
    assert ("no finer claim" in sentence) != says_target


@pytest.mark.parametrize("target", [0.001, 0.0137, 0.02, 0.3, 0.99])
@pytest.mark.parametrize("n", [1000, 2500, 20_000])
def test_the_bound_in_words_is_never_under_the_bound(n: int, target: float) -> None:
    threshold = conformal_threshold(range(n), target)
    assert threshold.upper - 1e-9 <= bound_in(threshold.sentence()) <= 1


def bound_in(sentence: str) -> float:
    found = re.search(r"at most ([0-9.]+) %", sentence)
    assert found, sentence
    return float(found[1]) / 100


@pytest.mark.parametrize("grid", [0, 7, 1000], ids=["no ties", "many ties", "few ties"])
@pytest.mark.parametrize(("n", "target"), [(300, 0.01), (2500, 0.02)])
def test_the_promise_in_words_holds_on_fresh_data(n: int, target: float, grid: int) -> None:
    """400 calibration sets; the flag rate of each threshold on fresh data is known exactly: 1 − t
    for uniform scores, on a grid of values the share of those above t.

    95 % is promised; under 93 % falls a right implementation in fewer than 1 in 20 seeds (binomial:
    2.9 % for exactly 95 %), and this seed is fixed.
    """
    rng = np.random.default_rng(11)
    kept = 0
    for _ in range(400):
        scores = rng.random(n)
        threshold = conformal_threshold(np.floor(scores * grid) if grid else scores, target)
        rate = (grid - 1 - threshold.value) / grid if grid else 1 - threshold.value
        kept += rate <= bound_in(threshold.sentence())
    assert kept / 400 >= 0.93
    if not grid:
        assert kept < 400, "a bound that is never passed promises too little"


def test_betting_is_what_the_product_says() -> None:
    differences, null = [1, 0, 0, -1, 1, 1, 0], 0.1
    capital = np.ones_like(_BETS)
    for d in differences:
        capital *= 1 + _BETS / (1 + null) * (d - null)
    assert betting_e(3, 1, 3, null) == pytest.approx(np.log(capital.mean()))


def test_betting_wins_nothing_under_the_null_exactly() -> None:
    """E over all sequences of n differences with mean = null is 1: a martingale, by enumeration."""
    for plus, minus, null in ((0.2, 0.2, 0.0), (0.15, 0.05, 0.1), (0.01, 0.06, -0.05)):
        n = 6
        total = sum(
            multinomial.pmf([a, b, n - a - b], n, [plus, minus, 1 - plus - minus])
            * exp(betting_e(a, b, n - a - b, null))
            for a in range(n + 1)
            for b in range(n + 1 - a)
        )
        assert total == pytest.approx(1.0)


def test_a_split_is_a_martingale_too() -> None:
    total = sum(binom.pmf(k, 9, 0.1) * exp(split_e(k, 9, 0.1)) for k in range(10))
    assert total == pytest.approx(1.0)
    assert split_e(250, 1000, 0.1) > np.log(1000)
    with pytest.raises(ValueError, match="a split needs"):
        split_e(3, 2, 0.1)


def test_betting_seldom_errs_however_often_one_looks() -> None:
    """400 runs of a thousand fair pairs, looked at each time: at most alpha = 5 % may pass 1/alpha;
    with 400 runs, 9 % has a chance under 0.1 %."""
    draws = np.random.default_rng(0).choice([1, -1, 0], p=[0.05, 0.05, 0.9], size=(400, 1000))
    wrong = 0
    for row in draws:
        plus, minus = np.cumsum(row == 1), np.cumsum(row == -1)
        moves = np.flatnonzero(row)
        found = max(
            betting_e(int(plus[i]), int(minus[i]), int(i + 1 - plus[i] - minus[i]), 0.0)
            for i in moves
        )
        wrong += found >= np.log(20)
    assert wrong / 400 <= 0.09
    with pytest.raises(ValueError, match="an e-process needs"):
        betting_e(-1, 0, 0, 0.0)
