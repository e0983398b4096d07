"""A ruling for machines: JUnit and SARIF tell the same as the ruling, under ids that stay."""

from xml.etree import ElementTree

from buckler.assess.check import Ruling
from buckler.assess.floors import Item
from buckler.assess.policy import Policy
from buckler.assess.report.formats import junit, sarif

from .test_check import ledger, rule


def results(ruling):
    (run,) = sarif(ruling, "1.0", "out/bundle/bundle.toml")["runs"]
    return run["results"]


def test_a_ruling_that_passes_has_no_findings():
    suite = ElementTree.fromstring(junit(rule()).encode())
    assert (suite.get("tests"), suite.get("failures")) == ("5", "0")
    assert suite.findall(".//failure") == []
    assert results(rule()) == []


def test_each_bar_that_is_missed_is_a_finding_under_its_own_id():
    ruling = rule(ledger(broken=58), struck=("gradients are masked",))
    found = results(ruling)
    assert [each["ruleId"] for each in found] == ["success", "adaptive-figure"]
    assert "must be < 0.15 at the interval's bad end. Got 0.18" in found[0]["message"]["text"]
    suite = ElementTree.fromstring(junit(ruling).encode())
    failed = {case.get("classname") for case in suite if case.find("failure") is not None}
    assert failed == {"buckler.success", "buckler.adaptive-figure"}
    assert suite.get("failures") == "2"


def test_every_finding_has_a_rule_and_a_place():
    (run,) = sarif(rule(ledger(broken=58, flagged=60, wrong=30), struck=("why",)), "1", "b.toml")[
        "runs"
    ]
    rules = {each["id"] for each in run["tool"]["driver"]["rules"]}
    assert {each["ruleId"] for each in run["results"]} <= rules
    assert len(run["results"]) == 4
    for each in run["results"]:
        (place,) = each["locations"]
        assert place["physicalLocation"]["artifactLocation"]["uri"] == "b.toml"


def test_the_same_finding_is_known_again_whatever_its_figure():
    one, other = (results(rule(ledger(broken=count))) for count in (58, 90))
    assert one[0]["message"] != other[0]["message"]
    assert one[0]["partialFingerprints"] == other[0]["partialFingerprints"]
    prints = [
        each["partialFingerprints"]["buckler/v1"] for each in results(rule(ledger(58, 60, 30)))
    ]
    assert len(set(prints)) == len(prints)


def test_a_floor_missed_by_two_classes_is_two_findings():
    items = tuple(
        Item("class-accuracy", f"class {name!r}", 0.5, 0.4, ">=", 0.9, 30, name) for name in "ab"
    )
    found = results(Ruling("d", Policy(), items, ()))
    prints = {each["partialFingerprints"]["buckler/v1"] for each in found}
    assert len(prints) == 2
