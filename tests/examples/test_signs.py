"""The signs' example, small: it draws, certifies, and no certified sign is turned."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "signs"


def test_signs_are_files_and_the_same_each_time(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import signs

    x, y = signs.signs(40, seed=3)
    assert x.shape == (40, 3, signs.SIDE, signs.SIDE)
    assert torch.equal((x * 255).round() / 255, x)
    assert y.max() < len(signs.NAMES)
    again, _ = signs.signs(40, seed=3)
    assert torch.equal(x, again)
    assert signs.build()(x).shape == (40, len(signs.NAMES))


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLE / "run.py", "--quick", "--folder", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "certified signs that the square turned: 0" in done.stdout
    assert (tmp_path / "stickers.png").exists()
