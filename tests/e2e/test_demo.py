"""The whole demo, and its report in a real browser."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "buckler.cli.main", "demo", "--output", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_demo_tells_the_whole_story(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    for words in ("one pixel", "article", "our guard", "deployment check", "adversarial:"):
        assert words in printed
    for name in ("report.html", "one_pixel.png", "bundle/bundle.toml"):
        assert (folder / name).exists()
    seeds = json.loads((folder / "model" / "seeds.json").read_text())
    assert len(seeds["accuracies"]) == 3
    assert seeds["mean"] >= 0.98
    signs = json.loads((folder / "bundle" / "evidence" / "battery.json").read_text())
    assert signs["undefended"]["believable"]
    assert signs["guard"]["believable"]


def test_the_report_draws_its_curves_without_a_network(demo: tuple[Path, str]) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium (Debian's package chromium)")
    page = demo[0] / "report.html"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [
        "--virtual-time-budget=8000",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"file://{page}",
    ]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert dom.count('class="main-svg"') >= 2
    assert "Deployment check" in dom
