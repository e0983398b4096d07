"""A ruling as JUnit XML and as SARIF 2.1.0: what build servers and code-scanning pages read."""

import hashlib
from typing import Any, Final
from xml.etree import ElementTree

from buckler.assess.check import Ruling
from buckler.assess.floors import Item

Json = dict[str, Any]
_SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_STANDS: Final = "adaptive-figure"
_RULES: Final = {
    "accuracy": "Accepted and right, beside the undefended model's accuracy",
    "review-rate": "Clean inputs sent to review",
    "added-latency": "Latency that the guard adds",
    "success": "Accepted and wrong under the adaptive suite",
    "clean-accuracy": "Right on clean inputs",
    "battery": "The verdict on the evaluation",
    "certified-accuracy": "Right, and certified at the policy's radius",
    "class-accuracy": "Accepted and right, of each class",
    "class-robust": "Right and unbroken under attack, of each class",
    "regression-clean": "Accepted and right, lost to the previous bundle",
    "regression-attack": "Right and unbroken under attack, lost to the previous bundle",
    _STANDS: "The adaptive figure can be believed",
}
"""Stable ids: a page that knows a finding by its id knows it again after an update."""


def junit(ruling: Ruling) -> str:
    """One test case a figure; failures carry the sentence."""
    items = [(item.rule, item.name, "" if item.met else _sentence(item)) for item in ruling.items]
    items += [(_STANDS, _RULES[_STANDS], "; ".join(ruling.struck))]
    failed = sum(bool(failure) for *_, failure in items)
    suite = ElementTree.Element(
        "testsuite",
        name=f"buckler check {ruling.digest[:12]}",
        tests=str(len(items)),
        failures=str(failed),
        errors="0",
        skipped="0",
    )
    for rule, name, failure in items:
        case = ElementTree.SubElement(suite, "testcase", classname=f"buckler.{rule}", name=name)
        if failure:
            ElementTree.SubElement(case, "failure", message=failure).text = failure
    ElementTree.indent(suite)
    text: str = ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
    return text + "\n"


def sarif(ruling: Ruling, version: str, place: str) -> Json:
    """One result a bar that is not met; none where the bundle passes.

    Args:
        version: Buckler's.
        place: the bundle's manifest, relative to the repository: code-scanning pages want a file.
    """
    found = [(item.rule, item.subject, _sentence(item)) for item in ruling.items if not item.met]
    found += [(_STANDS, "", reason) for reason in ruling.struck]
    threat = f"{ruling.policy.norm} {ruling.policy.eps:g}"
    driver = {
        "name": "Buckler",
        "version": version,
        "rules": [
            {"id": rule, "shortDescription": {"text": text}} for rule, text in _RULES.items()
        ],
    }
    run = {
        "tool": {"driver": driver},
        "properties": {"digest": ruling.digest, "passed": ruling.passed},
        "results": [
            {
                "ruleId": rule,
                "level": "error",
                "message": {"text": text},
                "locations": [{"physicalLocation": {"artifactLocation": {"uri": place}}}],
                "partialFingerprints": {"buckler/v1": _fingerprint(rule, threat, place, subject)},
            }
            for rule, subject, text in found
        ],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _sentence(item: Item) -> str:
    return (
        f"{item.name} must be {item.op} {item.bar:g} at the interval's bad end. "
        f"Got {item.bad_end:.4g} (measured {item.value:.4g}, n = {item.n})"
    )


def _fingerprint(rule: str, threat: str, place: str, subject: str) -> str:
    """The same finding again has the same one, whatever the figures."""
    parts = (rule, threat, place, *filter(None, (subject,)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
