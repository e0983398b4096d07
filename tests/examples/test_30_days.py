"""The guide of thirty days: every command in it runs, in its order, on digits."""

import re
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "30-days.md").read_text()
LESS = """
[threat]
curve = [0.1]
one_pixel = false
[assess]
rows = 60
steps = 5
restarts = 1
queries = 20
article = false
[harden]
ensemble = 1
epochs = 3
[certify]
rows = 4
n = 100
[redteam]
rows = 4
queries = 400
rate = 0
[policy]
accuracy_ratio = 0.5
review_rate = 0.5
success = 1.0
added_latency_ms = 1000
regression = 0.5
"""
"""The guide's settings with less of everything, and a policy that so little work can pass."""


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.S)


def commands():
    lines = [
        line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()
    ]
    return [line.split() for line in lines if line]


def ran(arguments, folder):
    command = [sys.executable, "-m", "buckler.cli.main", *arguments[1:]]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_command_runs_in_its_order(tmp_path):
    project, money = blocks("toml")
    for text in (project, money):
        tomllib.loads(text)
    (tmp_path / "buckler.toml").write_text(
        project.replace("true\n", "true\nepochs = 4\n", 1) + LESS
    )
    (tmp_path / "money.toml").write_text(money)
    (tmp_path / "store").mkdir()
    gateway = None
    try:
        for arguments in commands():
            if arguments[1] == "serve":
                gateway = served(arguments, tmp_path)
                continue
            done = ran(arguments, tmp_path)
            assert done.returncode == 0, (arguments, done.stdout[-800:], done.stderr[-800:])
    finally:
        if gateway is not None:
            gateway.terminate()
            gateway.wait(30)
    evidence = tmp_path / "out" / "bundle" / "evidence"
    for name in ("ruling.json", "card.md", "model-index.json"):
        assert (evidence / name).exists()
    assert (tmp_path / "out" / "report.html").exists()
    assert "EUR" in (tmp_path / "out" / "compare" / "compare.md").read_text()


def served(arguments, folder):
    """The gateway on a free port, once it answers."""
    command = [sys.executable, "-m", "buckler.cli.main", *arguments[1:], "--port", "0"]
    gateway = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    for line in gateway.stdout:
        found = re.search(r"http://\S+", line)
        if found:
            with urllib.request.urlopen(f"{found[0]}/v2/health/ready", timeout=30) as answer:
                assert answer.status == 200
            return gateway
        assert time.monotonic() < deadline
    raise AssertionError(f"the gateway ended: {gateway.poll()}")


def test_the_guide_has_four_weeks_with_commands():
    for week in range(1, 5):
        part = GUIDE.split(f"## Week {week}")[1].split("## Week")[0]
        assert "```sh" in part
        assert "*Done when*" in part
