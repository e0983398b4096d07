"""The alarms of a bundle: quiet on clean rows, quick on bad ones, and no clock or crash confuses
them."""

import json
import subprocess
import sys

import numpy as np
import pytest

from buckler.errors import DataError, UsageError
from buckler.ops import charts, season
from buckler.ops.alarms import LEARNT_ROWS, State, not_watched, step
from buckler.ops.cusum import run_length
from buckler.ops.rows import Reference, columns, encode, ranks_of, worst

N = 10_000
REFERENCE = Reference(
    classes=("cat", "dog", "owl"),
    n=N,
    ranks=ranks_of(N),
    review=(0.0085, 0.01, 0.0117),
    confident=tuple(np.arange(1, 10) / 10),
)
HOUR = 3600.0


def rows(count, seed=0, *, bad=0.0, deep=False, flagged=0.01, classes=(0.5, 0.3, 0.2)):
    """Clean rows, of which `bad` have a p-value in the tail's first 1 %, or far within it."""
    random = np.random.default_rng(seed)
    p = random.random(count)
    odd = random.random(count) < bad
    p[odd] = random.random(int(odd.sum())) * (1e-4 if deep else 1e-2)
    return encode(
        REFERENCE,
        1 - np.ceil(p * (N + 1)) / (N + 1),
        random.random(count) < flagged,
        random.choice(3, count, p=classes),
        random.random(count),
    )


def watched(reference, arl, state, at):
    factors = season.factors(state.season, at, reference.groups)
    return charts.watched(reference, arl, state.reference, factors)


def test_no_torch_sql_or_http_comes_along():
    code = (
        "import sys, buckler.ops.alarms; "
        "print([n for n in ('torch', 'sqlalchemy', 'fastapi', 'uvicorn') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_row_in_sixteen_bits():
    codes = encode(
        REFERENCE,
        [0.0, 1 - 101 / 10001, 1 - 100 / 10001, 1 - 12 / 10001, 1 - 1 / 10001],
        [False, False, True, True, True],
        [0, 1, 2, 0, 1],
        [0.05, 0.15, 0.5, 0.99, 1.0],
    )
    assert REFERENCE.ranks == (100, 12, 1)
    seen = columns(REFERENCE, codes)
    assert seen["tail"].tolist() == [0, 0, 1, 2, 3]
    assert seen["suspicious"].tolist() == [0, 0, 1, 1, 1]
    assert seen["class"].tolist() == [0, 1, 2, 0, 1]
    assert seen["confidence"].tolist() == [0, 1, 4, 9, 9]


def test_many_classes_share_charts():
    many = Reference(tuple(map(str, range(40))))
    codes = encode(many, [0.0] * 40, [False] * 40, range(40), [0.5] * 40)
    assert columns(many, codes)["class"].tolist() == [n % 16 for n in range(40)]
    assert many.name(3) == "3, 19, 35"


def test_clean_rows_are_quiet():
    state, found = State(), []
    for part in range(10):
        state, new = step(REFERENCE, 1e6, state, rows(20_000, part), part * HOUR)
        found += [alarm for alarm in new if alarm.tier == "page"]
    assert (state.seen, found) == (200_000, [])
    assert state.learnt


@pytest.mark.parametrize(
    ("given", "statistic", "within"),
    [
        ({"bad": 0.03, "deep": True}, "depth", 1000),
        ({"bad": 0.03}, "tail", 3000),
        ({"flagged": 0.05}, "suspicious up", 2000),
        ({"flagged": 0.0}, "suspicious down", 6000),
        ({"classes": (0.2, 0.3, 0.5)}, "class owl", 2000),
    ],
)
def test_what_each_chart_is_for(given, statistic, within):
    state, _ = step(REFERENCE, 1e6, State(), rows(LEARNT_ROWS, 1), 0.0)
    _, found = step(REFERENCE, 1e6, state, rows(within, 2, **given), HOUR)
    mine = next(alarm for alarm in found if alarm.statistic == statistic)
    assert mine.tier == "page"
    assert mine.rate > mine.expected
    assert mine.rows <= mine.row + 1 + LEARNT_ROWS


def test_the_shares_of_false_alarms_add_up():
    state, _ = step(REFERENCE, 1e6, State(), rows(LEARNT_ROWS), 0.0)
    rate = 0.0
    for each in watched(REFERENCE, 1e6, state, 0.0):
        rate += 1 / each.chart.arl if each.tier == "page" else 0
    assert 0.9e-6 < rate <= 1e-6


@pytest.mark.parametrize("n", [60, 300, 2000, 50_000])
def test_a_small_calibration_set_keeps_the_promise(n):
    """The tail's true rate, given the calibration rows, is Beta(rank, n + 1 − rank): of 200 draws
    at most 10 % may break the promise (5 % expected)."""
    reference = Reference(("a",), n, ranks_of(n))
    (tail, *_) = watched(reference, 1e4, State(), 0.0)
    rank = reference.ranks[0]
    rates = np.random.default_rng(0).beta(rank, n + 1 - rank, 200)
    broken = [run_length(tail.chart.weights, (1 - p, p), tail.chart.limit) < 3e4 for p in rates]
    assert sum(broken) <= 20


def test_the_state_survives_a_restart():
    """Half the rows, a restart, the rest: as if it had never stopped."""
    codes = rows(30_000, 3, bad=0.01, deep=True)
    whole, expected = step(REFERENCE, 1e5, State(), codes[:25_000], 0.0)
    whole, more = step(REFERENCE, 1e5, whole, codes[25_000:], 0.0)
    half, found = step(REFERENCE, 1e5, State(), codes[:25_000], 0.0)
    half = State.from_dict(json.loads(json.dumps(half.to_dict())))
    half, rest = step(REFERENCE, 1e5, half, codes[25_000:], 0.0)
    assert half == whole
    assert [*found, *rest] == [*expected, *more]
    assert expected


def test_batches_make_no_difference():
    codes = rows(3_000, 4, bad=0.02)
    whole, found = step(REFERENCE, 1e4, State(), codes, 0.0)
    state, count = State(), 0
    for part in np.split(codes, [1, 2, 700, 2_500]):
        state, new = step(REFERENCE, 1e4, state, part, 0.0)
        count += len(new)
    assert state == whole
    assert count == len(found) > 0
    assert step(REFERENCE, 1e4, state, codes[:0], 0.0) == (state, ())


def test_a_clock_that_jumps_changes_nothing_but_the_hour():
    codes = rows(1_000, 5)
    forward, _ = step(REFERENCE, 1e6, State(), codes, 1e9)
    back, _ = step(REFERENCE, 1e6, forward, codes, 0.0)
    on, _ = step(REFERENCE, 1e6, forward, codes, 1e9)
    assert back.charts == on.charts
    assert (back.seen, on.seen) == (2_000, 2_000)
    far, _ = step(REFERENCE, 1e6, back, codes, -1e12)
    assert far.seen == 3_000


def test_a_night_that_is_always_odd_is_expected_after_four_weeks():
    """Twice as many rows in the tail each Monday from 3 to 4, and no more at any other hour."""
    state = State()
    for week in range(5):
        for hour in (3, 4, 27, 50):
            bad = 0.02 if hour == 3 else 0.0
            at = (week * 168 + hour + 96) * HOUR
            state, found = step(REFERENCE, 1e9, state, rows(4_000, week * 168 + hour, bad=bad), at)
            if week == 4 and hour == 3:
                loud = {a.statistic for a in found if a.tier == "page"}
    assert "tail" not in loud
    monday, tuesday = ((96 + 3 + day * 24) * HOUR for day in (0, 1))
    assert season.hour_of(monday) == 3
    assert season.factors(state.season, monday, 3).tail > 1.6
    assert season.factors(state.season, tuesday, 3).tail == pytest.approx(0.75, abs=0.25)
    (before, *_), (after, *_) = (watched(REFERENCE, 1e6, s, monday) for s in (State(), state))
    assert run_length(after.chart.weights, (0.98, 0.02), after.chart.limit) > 1e5
    assert run_length(before.chart.weights, (0.98, 0.02), before.chart.limit) < 2e4


def test_an_hour_counts_once_a_week_however_often_it_is_asked():
    state = State()
    for _ in range(10):
        state, _ = step(REFERENCE, 1e6, state, rows(10), 0.0)
    assert state.season.hours[season.hour_of(0.0)][:2] == (1, 100)
    assert not state.season.is_long


def test_what_is_not_watched_is_said():
    bare = Reference(("a", "b"))
    told = " ".join(not_watched(bare, State()))
    for part in (
        "no conformal p-values",
        "confidence: it is none",
        "learning from the first 20000",
    ):
        assert part in told
    assert [each.statistic for each in watched(bare, 1e6, State(), 0.0)] == []
    learnt = State(seen=LEARNT_ROWS, classes=(15_000, 5_000), suspicious=400)
    names = [each.statistic for each in watched(bare, 1e6, learnt, 0.0)]
    assert names == ["suspicious up", "suspicious down", "class a", "class b"]
    rare = State(seen=LEARNT_ROWS, classes=(15_000, 5_000), suspicious=20)
    assert "fewer SUSPICIOUS rows: their rate of" in " ".join(not_watched(bare, rare))


def test_limits_of_a_rate():
    assert worst(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert worst(100, 100) == 1.0
    assert worst(20, 2000) > 0.01


@pytest.mark.parametrize(
    "wrong", [{}, {"charts": {"tail": 3}}, {"charts": {}, "season": None}, {"x": 1}]
)
def test_a_state_of_something_else_is_refused(wrong):
    with pytest.raises(DataError, match="the state of the alarms cannot be read"):
        State.from_dict(wrong)


def test_an_alarm_a_row_is_no_promise():
    with pytest.raises(UsageError, match=r"must be more than 1\. Got 1"):
        step(REFERENCE, 1.0, State(), rows(1), 0.0)


def test_shares_of_all_charts_are_one():
    shares = charts.SHARES
    assert 2 * shares["tail"] + 2 * shares["suspicious"] + shares["class"] == pytest.approx(1)
