"""The README is true: its code runs, its table is the measured one."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = sorted((ROOT / "docs").glob("*.md"))
PYTHON = sys.executable


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def named(block):
    """The file a block is for, by its first comment."""
    found = re.match(r"# ([\w.]+\.(?:py|toml))", block)
    return found[1] if found else None


def test_a_users_own_model_and_data_go_through_the_whole_chain(tmp_path):
    for block in (*blocks("python"), *blocks("toml")):
        if named(block):
            (tmp_path / named(block)).write_text(block)
    subprocess.run([PYTHON, "make_data.py"], cwd=tmp_path, check=True)
    config = tmp_path / "buckler.toml"
    tomllib.loads(config.read_text())
    # The README's own settings, with less of everything.
    config.write_text(
        config.read_text().replace("train = true ", "train = true\nepochs = 4 ")
        + "\n[assess]\nrows = 30\nsteps = 5\nrestarts = 1\nqueries = 20\n"
        + "[threat]\none_pixel = false\n[harden]\nepochs = 2\n[certify]\nrows = 3\n"
    )
    buckler = [PYTHON, "-m", "buckler.cli.main"]
    run = subprocess.run([*buckler, "run"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "out" / "bundle" / "bundle.toml").exists()
    check = subprocess.run([*buckler, "check"], cwd=tmp_path, capture_output=True, text=True)
    assert check.returncode in (0, 1), check.stderr
    np.save(tmp_path / "rows.npy", np.load(tmp_path / "data.npz")["x"][:2, None])
    command = next(line for line in README.splitlines() if line.startswith("buckler predict"))
    arguments = command.replace("image.png", "rows.npy").split()[1:]
    installed = Path(PYTHON).with_name("buckler")
    predict = subprocess.run(
        [installed, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert len(predict.stdout.splitlines()) == 2
    ruling = json.loads((tmp_path / "out" / "bundle" / "evidence" / "ruling.json").read_text())
    assert ruling["passed"] == (check.returncode == 0)


CODE = [block for block in blocks("python") if not named(block)]
CODE += [block for page in DOCS for block in blocks("python", page.read_text())]


@pytest.mark.parametrize("code", CODE)
def test_code_blocks_run(code, tmp_path):
    done = subprocess.run(
        [PYTHON, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_table_is_the_measured_one():
    results = (ROOT / "benchmarks" / "results" / "demo.md").read_text()
    shown = re.search(r"<!-- results: demo -->\n(.*?)<!-- /results -->", README, re.S)
    assert shown
    assert shown[1].strip() == results.strip(), "run python -m benchmarks.readme"


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link
