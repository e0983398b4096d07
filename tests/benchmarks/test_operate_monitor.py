"""The figures of the alarms, at a smaller n: quiet on clean rows, quick on bad ones, cheap."""

import pytest

from benchmarks import operate_monitor as bench


def test_quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million clean rows have 0.33 false alarms on average, so more than 3 are chance in one of
    4,000; the median of 5 runs at 2 % is 230 of 1,000 rows allowed."""
    monkeypatch.setattr(bench, "STREAMS", (("deep", 0.02), ("shallow", 0.02)))
    row = bench.row("all", lambda b, c, s: bench.pages(b, c, s, bench.ARL), runs=5, millions=1)
    assert row["false"] <= 3
    assert row["deep 2 %"] <= 1000
    assert row["shallow 2 %"] <= 2000
    assert "| all | " in bench.table([row])


def test_peers_are_skipped_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "river.drift", None)
    assert bench.peers() == {}
    assert "skipped ADWIN and Page-Hinkley: " in capsys.readouterr().out
