"""The page of all parts: one is measured anew, the others stay; a bar once listed stays."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import operate, operate_kept
from benchmarks.operate_retrains import retrains
from benchmarks.results_file import Bar

CASE = {"case": "equal", "runs": 20, "rolled_back": 1, "interval": [0.01, 0.2], "requests": None}


def measure(
    monkeypatch: pytest.MonkeyPatch, value: float, *arguments: str
) -> tuple[dict[str, object], str]:
    bar = Bar("rollout: equal", value, 20, (0.01, 0.2), "<=", 0.02)
    found = {"rollout": lambda: ([dict(CASE)], [bar]), "retrains": lambda: retrains(5)}
    monkeypatch.setattr(operate, "parts", lambda data_dir, quick: found)
    monkeypatch.setattr(sys, "argv", ["operate", "--quick", *arguments])
    operate.main()
    folder = Path("out/benchmarks")
    return json.loads((folder / "operate.json").read_text()), (folder / "operate.md").read_text()


def test_parts_are_measured_one_by_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found, page = measure(monkeypatch, 0.05, "--only", "rollout", "streams")
    assert "skipped streams: they need --data-dir" in capsys.readouterr().out
    assert [bar["met"] for bar in found["bars"]] == [False]  # type: ignore[attr-defined]
    assert "| equal | 1 / 20 (1.0%–20.0%) | – |" in page
    assert page.count("Not measured.") == 3
    assert "**unmet**" in page
    found, page = measure(monkeypatch, 0.01, "--only", "retrains")
    assert "| rollout: equal | 0.05 | <= 0.02 | **unmet** |" in page, "it was not measured anew"
    found, page = measure(monkeypatch, 0.01, "--only", "rollout")
    assert "| rollout: equal | 0.01 | <= 0.02 | met |" in page
    assert len(found["bars"]) == 2  # type: ignore[arg-type]
    assert page.count("Not measured.") == 2


def test_a_piece_is_measured_once_and_anew_when_its_code_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code = tmp_path / "src" / "buckler" / "serve" / "tally.py"
    code.parent.mkdir(parents=True)
    code.write_text("old")
    monkeypatch.setattr(operate_kept, "ROOT", tmp_path)
    operate_kept._digest.cache_clear()
    assert operate_kept.kept("rollout -3 points, 9 %", lambda: [1]) == [1]
    assert operate_kept.kept("rollout -3 points, 9 %", lambda: [2]) == [1]
    assert operate_kept.kept("rollout +3 points, 9 %", lambda: [2]) == [2]
    code.write_text("new")
    operate_kept._digest.cache_clear()
    assert operate_kept.kept("rollout -3 points, 9 %", lambda: [3]) == [3]
    operate_kept._digest.cache_clear()


def test_more_attacks_owe_more_retrains_and_never_one_a_week() -> None:
    rows, _ = retrains(200)
    means = [row["retrains"] for row in rows]
    assert means == sorted(means)
    assert means[0] > 0.5
    assert means[-1] < 6
