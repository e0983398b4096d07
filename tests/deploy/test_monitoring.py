"""Rules and dashboard speak of metrics that exist, and every alert links to a section that does."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from buckler.ops.alarms import Alarm
from buckler.ops.alerts import found
from buckler.ops.realised import false_positives
from tests.serve.stored import opened
from tests.serve.tiny import BLANK, CLASSIFY, LEFT, body

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "buckler.yaml"
TESTS = ROOT / "deploy" / "prometheus" / "buckler_test.yaml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "buckler.json").read_text())
GUIDE = (ROOT / "docs" / "guide" / "monitoring.md").read_text()
SECTIONS = set(re.findall(r"^### (\S+)$", GUIDE, re.M))


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def shown(folder: Path) -> set[str]:
    """The names of a gateway's metrics, of those without a value yet too."""
    with opened(folder) as gateway:
        gateway.client.post(CLASSIFY, json=body(LEFT, BLANK))
        gateway.app.state.stored.monitor.round()
        page = gateway.client.get("/metrics").text
    names = set(re.findall(r"^(buckler_\w+?)(?:\{| )", page, re.M))
    return names | set(re.findall(r"^# TYPE (buckler_\w+) ", page, re.M))


def test_every_metric_that_is_asked_for_exists(tmp_path: Path) -> None:
    names = shown(tmp_path)
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = [rule["expr"] for rule in rules()]
    asked += [target["expr"] for panel in panels() for target in panel["targets"]]
    for expression in asked:
        used = set(re.findall(r"(?<![\w:])[a-z_]*:?buckler_[\w:]+", expression))
        assert used, expression
        assert used <= names | recorded, expression


def test_every_rule_has_a_tier_words_and_a_section() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 8
    for rule in alerts:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        page, _, section = rule["annotations"]["runbook_url"].partition("#")
        assert (ROOT / page).exists()
        assert section in SECTIONS


@pytest.mark.parametrize(
    "statistic",
    ["tail", "depth", "suspicious up", "suspicious down", "class 7", "confidence up"],
)
def test_every_alarm_has_a_section(statistic: str) -> None:
    assert found(Alarm(statistic, "page", 0, 1, 1, 0.1), "b" * 64).runbook in SECTIONS


def test_a_ticket_of_the_reviews_has_one_too() -> None:
    ticket = false_positives("b" * 64, 1000, 100, 90, 100, 0.01)
    assert ticket is not None
    assert ticket.runbook in SECTIONS


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    assert DASHBOARD["uid"]
    assert DASHBOARD["schemaVersion"] >= 36
    assert [each["type"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "query"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert (
                target["datasource"]
                == panel["datasource"]
                == {
                    "type": "prometheus",
                    "uid": "${datasource}",
                }
            )
            assert target["expr"]
            assert target["legendFormat"]


def test_promtool_says_so_too() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    for given in (["check", "rules", str(RULES)], ["test", "rules", str(TESTS)]):
        done = subprocess.run([promtool, *given], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
