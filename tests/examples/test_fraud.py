"""The fraud example, from its rules to the attempt that is caught."""

import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "examples" / "fraud" / "run.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_promise_of_the_example_is_kept(tmp_path):
    for name in ("xgboost", "veritas", "uvicorn"):
        pytest.importorskip(name)
    done = subprocess.run(
        [sys.executable, str(PATH), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout
    assert done.stdout.count("kept: ") == 10
    assert (tmp_path / "fraud.html").exists()
    assert (tmp_path / "cases.csv").read_text().startswith("row,over_threshold,reasons")
    assert (tmp_path / "bundle" / "DIGEST").exists()
