"""The gate: policy against a bundle's evidence."""

import time
from importlib.metadata import version
from pathlib import Path

from buckler import files
from buckler.assess import Ledger
from buckler.assess.check import Previous, Ruling, judge_evidence
from buckler.assess.evidence import read, read_if_there, verdict
from buckler.assess.report.formats import junit, sarif
from buckler.cli.policy import PolicySection
from buckler.cli.project import Project, is_done, load_guard
from buckler.cli.steps_assess import evidence_inputs
from buckler.errors import DataError


def check_bundle(project: Project, bundle: Path, section: PolicySection | None = None) -> Ruling:
    """Policy against the evidence; writes evidence/ruling.json, .junit.xml and .sarif.

    section: default: the project's.
    """
    section = project.config.policy if section is None else section
    evidence, threat = bundle / "evidence", project.config.threat
    guard = load_guard(project, bundle)
    if not is_done(evidence, evidence_inputs(project, guard)):
        raise DataError(
            f"{evidence} is missing, or was made with other settings, data or weights than "
            "buckler.toml names now: run buckler assess on this bundle"
        )
    signs = read(evidence / "battery.json")["guard"]
    systems = read(evidence / "comparison.json")["systems"]
    ours = next(row for row in systems if row["name"] == "guard")
    grade = verdict(signs)
    asks_radius = section.certified_radius is not None
    ruling = judge_evidence(
        section.at(threat.norm, threat.eps),
        guard.digest,
        read(evidence / "assessment.json"),
        Ledger.load(evidence / "ledger.npz"),
        Ledger.load(evidence / "original.npz"),
        read(evidence / "latency.json"),
        struck=(*ours["struck"], *([signs["sentence"]] if grade == "fail" else [])),
        battery=grade,
        certificates=read_if_there(evidence / "certificates.json") if asks_radius else None,
        previous=None if section.previous is None else _previous(section.previous),
        class_names=guard.spec.class_names,
    )
    files.write_json(evidence / "ruling.json", {**ruling.to_dict(), "at": time.time()})
    files.write_text(evidence / "ruling.junit.xml", junit(ruling))
    manifest = bundle / "bundle.toml"
    place = manifest.as_uri() if manifest.is_absolute() else manifest.as_posix()
    files.write_json(evidence / "ruling.sarif", sarif(ruling, version("buckler"), place))
    return ruling


def _previous(bundle: Path) -> Previous:
    """Raises: DataError if its evidence is missing, broken or about another bundle."""
    evidence = bundle / "evidence"
    assessment = read(evidence / "assessment.json")
    try:
        digest = (bundle / "DIGEST").read_text().strip()
    except (OSError, ValueError):
        raise DataError(f"the previous bundle {bundle} has no DIGEST: is it a bundle?") from None
    if assessment["digest"] != digest:
        raise DataError(
            f"the evidence in {evidence} is about the bundle {str(assessment['digest'])[:12]}, not "
            f"about the previous one ({digest[:12]}): run buckler assess on that bundle"
        )
    return Previous(assessment, Ledger.load(evidence / "ledger.npz"))
