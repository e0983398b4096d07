"""The exercise and the retrain in deploy/: commands that exist, at times that come, as nobody."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from buckler.cli.main import app

yaml = pytest.importorskip("yaml")

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = DEPLOY / "systemd"
JOBS = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "exercise.yaml").read_text()))
GATEWAY = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "gateway.yaml").read_text()))
NAMES = ("buckler-exercise", "buckler-retrain")


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line makes of them, short of doing it. Raises for what it does not know."""
    verb = get_command(app).commands[words[1]]
    return verb.make_context(words[1], list(words[2:])).params


def command_of(name: str) -> list[str]:
    text = (UNITS / f"{name}.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.M)
    return shlex.split(line)


def pod_of(name: str) -> dict[str, Any]:
    (job,) = (each for each in JOBS if each["metadata"]["name"] == name)
    return job["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_the_units_say_what_the_command_line_knows() -> None:
    exercise = parsed(command_of("buckler-exercise"))
    assert not exercise["target"].startswith("http"), "a bundle's folder: nothing live is attacked"
    assert exercise["post"] == "http://127.0.0.1:8080"
    assert "BUCKLER_OPERATE_KEY" in (UNITS / "buckler-exercise.service").read_text()
    retrain = parsed(command_of("buckler-retrain"))
    assert retrain["if_due"] is True
    assert "BUCKLER_STORE" in (UNITS / "buckler-retrain.service").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_may_write_what_it_must_alone(name: str) -> None:
    text = (UNITS / f"{name}.service").read_text()
    assert "ProtectSystem=strict" in text
    assert "/srv/buckler/project" in re.findall(r"^ReadWritePaths=(.*)$", text, re.M)[0].split()
    assert "/srv/buckler/bundle" not in text, "the live bundle is the gateway's alone"
    for line in ("NoNewPrivileges=yes", "Type=oneshot", "User=buckler-train"):
        assert line in text
    timer = (UNITS / f"{name}.timer").read_text()
    assert "Persistent=true" in timer, "a machine that was off makes up for it"
    assert "WantedBy=timers.target" in timer


def test_the_jobs() -> None:
    assert [job["kind"] for job in JOBS] == ["CronJob", "CronJob"]
    assert tuple(job["metadata"]["name"] for job in JOBS) == NAMES
    for job in JOBS:
        assert job["apiVersion"] == "batch/v1"
        assert job["spec"]["concurrencyPolicy"] == "Forbid", "two would write one folder"
        assert re.fullmatch(r"\d+ \d+ (1|\*) \* (\*|1)", job["spec"]["schedule"])
    exercise, retrain = (pod_of(name)["containers"][0] for name in NAMES)
    asked = parsed(exercise["command"])
    (service,) = (each for each in GATEWAY if each["kind"] == "Service")
    assert asked["post"] == f"http://{service['metadata']['name']}"
    assert service["spec"]["ports"][0]["port"] == 80
    assert parsed(retrain["command"])["if_due"] is True
    secrets = {"BUCKLER_OPERATE_KEY": exercise, "BUCKLER_STORE": retrain}
    for name, box in secrets.items():
        (one,) = (each for each in box["env"] if each["name"] == name)
        assert one["valueFrom"]["secretKeyRef"]["name"] == "buckler-operate"


@pytest.mark.parametrize("name", NAMES)
def test_a_job_is_as_small_as_the_gateway(name: str) -> None:
    """The same limits as the gateway's pod, and a place for all it writes."""
    pod = pod_of(name)
    (gateway,) = (each for each in GATEWAY if each["kind"] == "Deployment")
    theirs = gateway["spec"]["template"]["spec"]
    for field in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert pod[field] == theirs[field]
    (box,) = pod["containers"]
    assert box["securityContext"] == theirs["containers"][0]["securityContext"]
    assert box["image"] != theirs["containers"][0]["image"], "the gateway's holds no attack code"
    assert {m["name"] for m in box["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert box["workingDir"] in {m["mountPath"] for m in box["volumeMounts"]}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_units_as_systemd_reads_them(tmp_path: Path) -> None:
    for path in UNITS.iterdir():
        text = path.read_text().replace("/opt/buckler-train/bin/buckler", "/bin/true")
        (tmp_path / path.name).write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60
    )
    assert not [line for line in done.stderr.splitlines() if str(tmp_path) in line], done.stderr
