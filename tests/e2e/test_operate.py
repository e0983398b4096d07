"""The whole life of a bundle, as a user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "examples" / "operate_end_to_end.py"


def test_every_promise_is_kept(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT KEPT" not in done.stdout
    assert "2 retrains: 1 owed and made, 1 refused" in done.stdout
