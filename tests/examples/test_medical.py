"""The films' example, small: it runs to its end, and its files come back as they were."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "medical"


@pytest.fixture
def films(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import films

    return films


def test_films_use_their_twelve_bits(films):
    x, y = films.films(60, seed=0)
    assert x.dtype == np.uint16
    assert x.max() <= films.TOP
    assert len(np.unique(x)) > 1000
    assert set(y) == {0, 1}
    again, _ = films.films(60, seed=0)
    assert np.array_equal(x, again)


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLE / "run.py", "--folder", tmp_path, "--films", "600", "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the same in all 1024 values: True" in done.stdout
    assert "Under attack, 120 films" in done.stdout
    assert tomllib.loads((tmp_path / "buckler.toml").read_text())["data"]["levels"] == 4096
