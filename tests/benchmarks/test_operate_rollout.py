"""The simulated rollouts keep their word, on a few runs; the figures are from 400."""

from benchmarks.operate_rollout import CASES, bars, figures


def test_a_few_runs_of_each_bar() -> None:
    """An equal bundle is rolled back in under 2 % of runs: of 8, two have a chance under 1 %; what
    is caught in 95 % is missed in 3 of 8 with under 1 %."""
    names = ("equal, heavy-tailed clients", "+3 points SUSPICIOUS", "-3 points detection")
    rows = {row["case"]: row for row in figures(names, runs=8)}
    assert rows[names[0]]["rolled_back"] <= 1
    assert rows[names[1]]["rolled_back"] >= 6
    assert rows[names[2]]["rolled_back"] >= 6
    assert [bar["name"] for bar in bars(list(rows.values()))] == list(names)
    assert set(names) <= set(CASES)
