"""The guide's spec loads, and its code runs as it stands."""

import re
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parents[3] / "docs" / "guide" / "fraud.md").read_text()


def test_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("xgboost", "veritas"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    (toml,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.S)
    Path("features.toml").write_text(toml)
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.S):
        exec(block, scope)
    found = re.fullmatch(
        r"(\d+) of (\d+) get through, for \$(\d+\.\d+) on average\n(\d+) of (\d+) proved\n",
        capsys.readouterr().out,
    )
    assert found
    assert 0 < int(found[1]) <= int(found[2])
    assert 0 < int(found[4]) <= int(found[5])
    assert "Applications" in Path("fraud.html").read_text()
