"""A gateway without attack code: the very removal of the image, and it still serves."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx2
import pytest

from ..serve.bundles import untrained

ROOT = Path(__file__).parents[2]
GONE = ("attacks", "harden", "assess")


def strip(package: Path) -> None:
    subprocess.run(["sh", str(ROOT / "deploy" / "strip.sh"), str(package)], check=True)
    assert not any((package / name).exists() for name in GONE)


def environment(folder: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("BUCKLER_")}
    return {**own, "PYTHONPATH": str(folder)}


def serves(folder: Path, tmp_path: Path) -> None:
    """What lies in `folder` answers, and none of what is gone can be imported."""
    untrained(tmp_path / "bundle")
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "buckler.cli.operate"),
            *("serve", str(tmp_path / "bundle"), "--port", "0"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env={**environment(folder), "COLUMNS": "500"},
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None
            assert httpx2.get(f"{found[0]}/v2/health/ready").status_code == 200
            answer = httpx2.post(f"{found[0]}/v1/classify", json={"rows": [[0.5] * 64]})
            assert answer.json()["verdicts"][0]["status"] in ("ACCEPTED", "SUSPICIOUS")
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
    look = (
        "import importlib.util as u, buckler; print(buckler.__file__); "
        f"print([n for n in {GONE} if u.find_spec('buckler.' + n)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", look],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(folder),
    )
    file, gone = done.stdout.splitlines()
    assert Path(file).is_relative_to(folder), "it is this very copy that was asked"
    assert gone == "[]"


def test_it_serves_without_attack_code(tmp_path: Path) -> None:
    package = tmp_path / "site" / "buckler"
    shutil.copytree(ROOT / "src" / "buckler", package, ignore=shutil.ignore_patterns("__pycache__"))
    strip(package)
    serves(tmp_path / "site", tmp_path)


@pytest.mark.slow
def test_the_wheel_serves_without_attack_code(tmp_path: Path) -> None:
    """As it is installed: the pages, migrations and styles are in it too."""
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)),
        ],
        check=True,
        timeout=100,
    )
    (wheel,) = tmp_path.glob("buckler-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    strip(tmp_path / "site" / "buckler")
    serves(tmp_path / "site", tmp_path)
