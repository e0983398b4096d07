"""The example of texts, small."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "examples" / "text_moderation.py"


def test_it_runs_and_the_guard_holds(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("text_moderation", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.main(count=500)
    said = capsys.readouterr().out
    assert found["plain"] >= 0.5
    assert found["guarded"] <= 0.1
    assert found["certified"] > 0
    assert "spam at" in said
    assert "whatever any one word is replaced by" in said
