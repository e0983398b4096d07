"""KServe's own client, from an environment of its own: it asks for other versions than we do."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from buckler.serve import Background

from .tiny import BLANK, LEFT, RIGHT, settings, tiny_guard

PYTHON = Path(__file__).parents[2] / "out" / "kserve" / "bin" / "python"


@pytest.mark.slow
def test_kserves_client(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip(f"kserve is not in {PYTHON}: make test-slow puts it there")
    np.save(tmp_path / "x.npy", torch.cat([LEFT, RIGHT, BLANK]).numpy())
    with Background(tiny_guard(), settings(), log=False) as url:
        script = Path(__file__).with_name("kserve_asks.py")
        asked = [str(PYTHON), str(script), url, str(tmp_path / "x.npy")]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    status = ["ACCEPTED", "ACCEPTED", "SUSPICIOUS"]
    answer = {"id": "mine", "status": status}
    assert json.loads(done.stdout.splitlines()[-1]) == {
        **dict.fromkeys(("live", "ready", "model"), True),
        "json": answer,
        "binary": answer,
    }
