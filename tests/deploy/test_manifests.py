"""What deploy/ says fits what the gateway is: ports, paths, names of variables, times."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from buckler.serve import Settings
from buckler.serve.access import OPEN, ROUTES
from buckler.serve.run import _finish_s

yaml = pytest.importorskip("yaml")

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
UNIT = (DEPLOY / "buckler.service").read_text()
FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
DEFAULTS = Settings.model_fields
SLOWEST_S = 12  # beside delay and deadline: the last connections taken, the runner stopped


def documents(path: Path) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all(path.read_text())}


def pods() -> list[Any]:
    """The pod of each manifest: (its name, what it holds)."""
    return [
        pytest.param(
            documents(DEPLOY / "kubernetes" / "gateway.yaml")["Deployment"]["spec"]["template"][
                "spec"
            ],
            id="deployment",
        ),
        pytest.param(
            documents(DEPLOY / "kubernetes" / "kserve.yaml")["InferenceService"]["spec"][
                "predictor"
            ],
            id="kserve",
        ),
    ]


def read(given: dict[str, str]) -> Settings:
    """The settings of these variables, as the gateway would read them."""
    names = {name.removeprefix("BUCKLER_").lower(): value for name, value in given.items()}
    assert set(names) <= set(DEFAULTS), "a variable that is no setting stops the start"
    return Settings.read(**names)


def variables(pod: dict[str, Any]) -> dict[str, str]:
    env = pod["containers"][0]["env"]
    assert all(isinstance(each["value"], str) for each in env), "YAML's own kinds are refused"
    return {e["name"]: e["value"] for e in env if e["name"].startswith("BUCKLER_")}


def paths_of(probe: dict[str, Any], model: str) -> str:
    return str(probe["httpGet"]["path"]).replace(f"/models/{model}/", "/models/{model}/")


@pytest.mark.parametrize("pod", pods())
def test_a_pod_serves_what_its_probes_ask(pod: dict[str, Any]) -> None:
    (box,) = pod["containers"]
    chosen = read(variables(pod))
    (port,) = box["ports"]
    assert chosen.port == port["containerPort"]
    assert chosen.host == "0.0.0.0"
    assert chosen.keys_file is not None, "an open address without keys is refused"
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = box[name]
        assert ROUTES[f"GET {paths_of(probe, chosen.model)}"] == OPEN, "a probe has no key"
        assert probe["httpGet"]["port"] in (port["name"], port["containerPort"])
    assert box["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert "ready" in box["readinessProbe"]["httpGet"]["path"]


@pytest.mark.parametrize("pod", pods())
def test_a_pod_has_time_to_drain(pod: dict[str, Any]) -> None:
    chosen = read(variables(pod))
    (command, seconds) = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    probe = pod["containers"][0]["readinessProbe"]
    noticed = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert chosen.drain_delay_s > noticed, "it answers on until nobody sends any more"
    needed = int(seconds) + chosen.drain_delay_s + _finish_s(chosen) + SLOWEST_S
    assert pod["terminationGracePeriodSeconds"] > needed


@pytest.mark.parametrize("pod", pods())
def test_a_pod_may_do_nothing_it_need_not(pod: dict[str, Any]) -> None:
    (box,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "else BUCKLER_PORT is a URL and stops the start"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert box["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.M)
    assert user is not None
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == tuple(
        map(int, user.groups())
    )
    keys = next(e["value"] for e in box["env"] if e["name"] == "BUCKLER_KEYS_FILE")
    mounts = {mount["mountPath"]: mount for mount in box["volumeMounts"]}
    assert mounts[str(Path(keys).parent)]["readOnly"] is True
    assert {mount["name"] for mount in mounts.values()} == {v["name"] for v in pod["volumes"]}


def test_the_service_and_the_budget_find_the_pods() -> None:
    found = documents(DEPLOY / "kubernetes" / "gateway.yaml")
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    ports = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == ports[0]["name"]
    budget = found["PodDisruptionBudget"]["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert budget["minAvailable"] < found["Deployment"]["spec"]["replicas"]
    assert found["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_kserve_asks_for_the_model_by_its_services_name() -> None:
    found = documents(DEPLOY / "kubernetes" / "kserve.yaml")["InferenceService"]
    pod = found["spec"]["predictor"]
    (box,) = pod["containers"]
    env = {each["name"]: each["value"] for each in box["env"]}
    assert read(variables(pod)).model == found["metadata"]["name"]
    assert env["PROTOCOL"] == "v2"
    assert env["STORAGE_URI"]
    assert box["args"] == ["serve", "/mnt/models"], "where KServe puts what STORAGE_URI names"
    assert box["name"] == "kserve-container"


def test_the_image() -> None:
    lines = re.sub(r"\\\n", " ", DOCKERFILE)
    env = dict(re.findall(r"(BUCKLER_\w+)=(\S+)", lines))
    chosen = read(env)
    assert f"EXPOSE {chosen.port}\n" in lines
    assert f"http://127.0.0.1:{chosen.port}/v2/health/ready" in lines
    assert ROUTES["GET /v2/health/ready"] == OPEN
    assert "ARG EXTRAS=serve\n" in lines
    assert '".[${EXTRAS}]"' in lines
    assert "-c constraints.txt" in lines
    assert lines.index("deploy/strip.sh") < lines.index("\nFROM python:${PYTHON}-slim\n")
    assert lines.rindex("USER ") > lines.rindex("COPY "), "nothing of it is the user's to change"
    assert 'ENTRYPOINT ["buckler-gateway"]' in lines


def test_the_image_is_built_from_little() -> None:
    """What the Dockerfile copies is let through, and nothing else."""
    ignored = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    let = {line[1:] for line in rules if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M)
    sources = {name for line in copied for name in shlex.split(line)[:-1]}
    assert sources == let
    assert all((DEPLOY.parent / name).exists() for name in sources)


def test_the_unit() -> None:
    given = dict(re.findall(r"(BUCKLER_\w+)=(\S+)", UNIT))
    chosen = read({**given, "BUCKLER_KEYS_FILE": "/run/keys"})
    stop = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.M)
    assert stop is not None
    assert int(stop[1]) > chosen.drain_delay_s + _finish_s(chosen) + SLOWEST_S
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "DynamicUser=yes", "PrivateTmp="):
        assert line in UNIT
    assert "ExecStart=/opt/buckler/bin/buckler-gateway serve " in UNIT


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_as_systemd_reads_it(tmp_path: Path) -> None:
    unit = tmp_path / "buckler.service"
    unit.write_text(UNIT.replace("/opt/buckler/bin/buckler-gateway", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert str(unit.name) not in done.stderr, done.stderr
