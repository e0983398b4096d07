"""Money: hand-worked weeks, intervals that hold, and no claim without its inputs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.errors import UsageError
from buckler.ops.impact import Prices, System, Traffic, cheapest, impact, unguarded, week

TRAFFIC = Traffic(100_000, (10, 1000))
PRICES = Prices(missed=50, review=2, false_alarm=1, minutes=3)
BEFORE = unguarded((80, 100))
AFTER = System("bundle b", missed=(10, 100), flagged_attacks=(70, 100), flagged_clean=(20, 1000))


def test_a_week_worked_by_hand():
    found = impact(TRAFFIC, PRICES, BEFORE, AFTER)
    # 100,000 inputs, 1 % attacks: 1,000 attacks, 800 missed at 50 each.
    assert found.before.value == pytest.approx(40_000)
    # 100 missed (5,000), 700 attacks reviewed (1,400), 99,000 × 2 % = 1,980 false alarms at 2 + 1.
    assert found.after.value == pytest.approx(5_000 + 1_400 + 5_940)
    assert found.saved.value == pytest.approx(27_660)
    assert found.hours.value == pytest.approx(-(700 + 1_980) * 3 / 60)
    # 40 p = 6.4 p + 0.06 (1 − p)
    assert found.pays_from == pytest.approx(0.06 / 33.66)
    assert not found.always


def test_against_a_guard_that_flags_more_hours_are_saved():
    worse = System("bundle a", (10, 100), (70, 100), (50, 1000))
    found = impact(TRAFFIC, PRICES, worse, AFTER)
    assert found.hours.value == pytest.approx(99_000 * 0.03 * 3 / 60)
    assert found.saved.value == pytest.approx(99_000 * 0.03 * 3)
    assert (found.pays_from, found.always) == (None, True)
    back = impact(TRAFFIC, PRICES, AFTER, worse)
    assert (back.pays_from, back.always) == (None, False)
    assert back.saved.value == pytest.approx(-found.saved.value)
    assert (back.saved.low, back.saved.high) == pytest.approx((-found.saved.high, -found.saved.low))


def test_break_even_is_where_both_cost_the_same():
    start = impact(TRAFFIC, PRICES, BEFORE, AFTER).pays_from
    assert start is not None
    at = Traffic(1_000, (round(start * 10**9), 10**9))
    assert impact(at, PRICES, BEFORE, AFTER).saved.value == pytest.approx(0, abs=1e-5)
    above = Traffic(1_000, (round(start * 1.1 * 10**9), 10**9))
    assert impact(above, PRICES, BEFORE, AFTER).saved.value > 0


counts = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
money = st.floats(0, 1000)


@settings(max_examples=25, deadline=None)
@given(counts, counts, counts, counts, counts, st.tuples(money, money, money))
def test_the_value_lies_in_its_interval(attacks, missed, other, caught, alarmed, prices):
    found = impact(
        Traffic(1000, attacks),
        Prices(*prices),
        unguarded(missed),
        System("g", other, caught, alarmed),
    )
    for each in (found.before, found.after, found.saved, found.hours):
        assert each.low - 1e-6 <= each.value <= each.high + 1e-6
    assert found.saved.value == pytest.approx(found.before.value - found.after.value, abs=1e-6)


def test_the_interval_holds_the_true_week():
    """True rates known, 300 samples of them: the share of intervals that miss is under 5 %."""
    p, rates = 0.02, (0.6, 0.1, 0.8, 0.03)
    old, new = 50 * rates[0], 50 * rates[1] + 2 * rates[2]
    truth = 1000 * (p * (old - new) - (1 - p) * 3 * rates[3])
    rng, outside = np.random.default_rng(5), 0
    for _ in range(300):
        k = [
            int(rng.binomial(n, r))
            for n, r in zip((500, 60, 60, 60, 400), (p, *rates), strict=True)
        ]
        after = System("g", (k[2], 60), (k[3], 60), (k[4], 400))
        saved = impact(Traffic(1000, (k[0], 500)), PRICES, unguarded((k[1], 60)), after).saved
        outside += not saved.low <= truth <= saved.high
    assert outside <= 15


def test_the_threshold_that_costs_least_moves_with_the_prices():
    points = [
        System("0.1", (2, 100), (95, 100), (200, 1000)),
        System("0.5", (10, 100), (70, 100), (20, 1000)),
        System("0.9", (60, 100), (5, 100), (1, 1000)),
    ]
    assert cheapest(TRAFFIC, PRICES, points).name == "0.5"
    assert cheapest(TRAFFIC, Prices(100_000, 2, 1), points).name == "0.1"
    assert cheapest(TRAFFIC, Prices(1, 2, 1), points).name == "0.9"
    # Attacks so rare that 50 a miss is nothing beside the reviews.
    assert cheapest(Traffic(1000, (1, 100_000)), PRICES, points).name == "0.9"
    assert cheapest(TRAFFIC, Prices(0, 0, 0), points).name == "0.9", "as cheap: it flags least"
    with pytest.raises(UsageError, match="no threshold to choose from"):
        cheapest(TRAFFIC, PRICES, [])


def test_a_claim_stands_beside_its_inputs():
    found = impact(TRAFFIC, PRICES, BEFORE, AFTER)
    said = found.sentence()
    for part in (
        *("27,660 EUR [", "100,000 inputs", "10 attacks in 1,000", "50 EUR a missed attack"),
        *("2 a review", "1 a false alarm", "80 of 100 before, 10 of 100 after"),
        *("flagged none before, 20 of 1,000 after", "-134.0 hours", "3 minutes"),
    ):
        assert part in said
    kept = json.loads(json.dumps(found.to_dict()))
    assert kept["sentence"] == said
    assert kept["traffic"] == {"volume": 100_000, "attacks": [10, 1000]}
    assert kept["prices"]["missed"] == 50
    assert [system["name"] for system in kept["systems"]] == ["no guard", "bundle b"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Prices(-1, 1, 1), "missed must be a number >= 0. Got -1"),
        (lambda: Prices(1, float("nan"), 1), "review must be a number"),
        (lambda: Traffic(0, (1, 2)), "above 0. Got 0"),
        (lambda: Traffic(10, (3, 2)), r"attacks must be \(k, n\).*Got \(3, 2\)"),
        (lambda: Traffic(10, (0, 0)), "n >= 1"),
        (lambda: System("g", (1, 2), (0, 0), (1, 2)), "g: flagged_attacks must be"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_the_guide_is_true(capsys):
    guide = (Path(__file__).parents[2] / "docs/guide/retraining.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    exec(block, {})
    assert "saves 27,660 EUR [" in capsys.readouterr().out


def test_a_week_of_one_system_worked_by_hand():
    found = week(TRAFFIC, PRICES, AFTER)
    # 1,000 attacks, 100 missed at 50; reviews as in the test above.
    assert found.at_risk.value == pytest.approx(5_000)
    assert found.cost.value == pytest.approx(5_000 + 1_400 + 5_940)
    assert found.hours.value == pytest.approx((700 + 1_980) * 3 / 60)
    for each in (found.at_risk, found.cost, found.hours):
        assert each.low < each.value < each.high
    for put_in in ("100,000 inputs", "10 attacks in 1,000", "50 EUR", "10 of 100", "20 of 1,000"):
        assert put_in in found.sentence()


def test_a_week_and_a_change_tell_the_same():
    change = impact(TRAFFIC, PRICES, BEFORE, AFTER)
    assert week(TRAFFIC, PRICES, BEFORE).cost.value == pytest.approx(change.before.value)
    assert week(TRAFFIC, PRICES, AFTER).cost.value == pytest.approx(change.after.value)
    nothing = week(TRAFFIC, PRICES, BEFORE)
    assert nothing.hours == type(nothing.hours)(0, 0, 0)
    assert nothing.at_risk.value == pytest.approx(nothing.cost.value)
    assert nothing.at_risk.high == pytest.approx(nothing.cost.high)
