"""The step that certifies a bundle: what is served, or, of plain answers, the smoothed members."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from buckler import files
from buckler.certify import certify
from buckler.cli import show
from buckler.cli.project import Project, load_guard
from buckler.guard import Guard
from buckler.protocols import Progress
from buckler.stats import wilson
from buckler.verdict import Certificate, PatchCertificate, in_full

Json = dict[str, Any]
Found = Sequence[Certificate | PatchCertificate]
_MEMBERS = (
    "the members' mean smoothed with Gaussian noise, not what is served: the gateway answers "
    "without that noise, and no verdict of it carries a radius"
)
_SMOOTHED = (
    "what is served: the gateway answers by the same vote under noise, with its own secret draws, "
    "and a verdict carries the radius of its answer. On these rows an answer took {mean:.0f} "
    "forwards in the mean and {most} at the most"
)
_MASKED = (
    "what is served: the gateway answers through the same masks. A verdict does not say whether "
    "its own row is certified"
)
_ABSTAINING = (
    "what is served: the gateway answers through the same masks, and every answer that is not "
    "SUSPICIOUS for disagreeing masks has this certificate"
)


def certify_bundle(project: Project, bundle: Path) -> Json:
    """Certificates of a sample of test rows; writes evidence/certificates.json."""
    guard = load_guard(project, bundle)
    x, y, rows = project.data["test"].sample(
        project.config.certify.rows, project.config.assess.seed
    )
    with show.bar("certify") as progress:
        found, about = _certified(project, guard, x, rows, progress)
    certificates = [
        {"row": int(row), "y": int(truth), **certificate.to_dict()}
        for row, truth, certificate in zip(rows, y, found, strict=True)
    ]
    right = sum(row["label"] == row["y"] for row in certificates)
    first = next((c for c in found if not c.abstained), found[0])
    value: Json = {
        "schema": "buckler.certificates/1",
        "digest": guard.digest,
        "about": about,
        "served": guard.answering is not None,
        "sentence": str(first),
        "in_full": in_full(first),
        "abstained": sum(c.abstained for c in found),
        "right": asdict(wilson(right, len(found))),
        "certificates": certificates,
    }
    files.write_json(bundle / "evidence" / "certificates.json", value)
    return value


def _certified(
    project: Project, guard: Guard, x: Tensor, rows: Tensor, progress: Progress
) -> tuple[Found, str]:
    """The certificates, and what they are about."""
    if guard.answering is None:
        section = project.config.certify
        budget = {"n": section.n, "n0": section.n0}
        members = certify(
            guard.beneath(), x, sigma=section.sigma, alpha=section.alpha, rows=rows,
            progress=progress, **budget,
        )  # fmt: skip
        return members, _MEMBERS
    found: Found = guard.certificates(x, progress)
    if isinstance(found[0], PatchCertificate):
        return found, _ABSTAINING if found[0].abstaining else _MASKED
    taken = torch.tensor([c.n for c in found if isinstance(c, Certificate)]).double()
    taken += getattr(guard.answering, "n0", 0)
    return found, _SMOOTHED.format(mean=float(taken.mean()), most=int(taken.max()))


def say_certified(value: Json) -> None:
    """The lines that a person needs."""
    rows, right = value["certificates"], value["right"]
    show.line(f"{value['sentence']}")
    line = f"{len(rows)} rows: {right['k']} certified right, {value['abstained']} not certified"
    if "radius" in rows[0]:
        radii = sorted(row["radius"] if row["label"] == row["y"] else 0.0 for row in rows)
        line += f"; median certified L2 radius {radii[len(radii) // 2]:.3f} (0 where not right)"
    show.line(line)
    show.line(f"about {value['about']}")
