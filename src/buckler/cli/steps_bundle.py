"""The steps around a bundle: build it, gather its evidence, rule on it, write it down."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from buckler import files
from buckler.assess import Ledger, battery, of_guard, of_model
from buckler.assess.check import Policy, Ruling, judge_evidence
from buckler.assess.compare import Effort, compare
from buckler.assess.latency import added_latency
from buckler.assess.parallel import side_by_side
from buckler.assess.pictures import save_examples
from buckler.assess.run import assess
from buckler.assess.target import Target
from buckler.attacks import PGD
from buckler.certify import certify
from buckler.cli import show
from buckler.cli.project import Project, is_done, mark_done
from buckler.defenses import defense
from buckler.errors import DataError, UsageError
from buckler.guard import Guard, article, calibrate, load_bundle, write_bundle
from buckler.guard.bundle import OWN_FACTORIES, MemberSource
from buckler.harden import choose_weights

Json = dict[str, Any]
_BATTERY_ROWS = 200


def build_bundle(project: Project) -> Json:
    """Choose the members' weights, calibrate the guard, write out/bundle/ and out/build.json."""
    config, data = project.config, project.data
    inputs = project.inputs_of("build", config.guard, config.harden, config.threat, config.data)
    record = project.out / "build"
    if is_done(record, inputs) and (project.bundle / "bundle.toml").exists():
        show.line(f"{project.bundle} is of these inputs already: skipped")
        return files.read_json(record / "build.json")
    names = config.harden.members
    members = [project.member(name) for name in names]
    select = data["select"]
    with show.bar("choose the members' weights") as progress:
        best, tried = choose_weights(members, select.x, select.y, project.threat, progress=progress)
    rate = max(config.guard.review_rate, 1 / (len(data["calibrate"]) + 1))
    if rate > config.guard.review_rate:
        show.line(
            f"{len(data['calibrate'])} calibration rows allow a review rate of {rate:.2%} at the "
            f"least: taken instead of {config.guard.review_rate:.2%}",
            "yellow",
        )
    guard = calibrate(
        data,
        members,
        best.weights,
        views=[defense(name) for name in config.guard.views],
        path=[defense(name) for name in config.guard.path],
        detectors=config.guard.detectors,
        review_rate=rate,
    )
    order = sorted(
        (i for i in range(len(names)) if best.weights[i] > 0), key=lambda i: -best.weights[i]
    )
    sources = [MemberSource(names[i], config.model.factory) for i in order]
    digest = write_bundle(guard, data, sources, project.bundle)
    _, accepted = guard.answer(data["verify"].x)
    value: Json = {
        "digest": digest,
        "weights": dict(zip(names, best.weights, strict=True)),
        "tried": [{"weights": m.weights, **asdict(m.found)} for m in tried],
        "threshold": asdict(guard.rule.calibration),  # type: ignore[attr-defined]
        "verify": {"flagged": int((~accepted).sum()), "n": len(accepted)},
    }
    files.write_json(record / "build.json", value)
    mark_done(record, inputs)
    return value


def load_guard(project: Project, bundle: Path) -> Guard:
    """Raises: UsageError if the bundle was made for other inputs or classes than the data's."""
    guard = load_bundle(bundle, factories=(*OWN_FACTORIES, project.config.model.factory))
    spec = project.data.spec
    if (guard.spec.shape, guard.spec.class_names) != (spec.shape, spec.class_names):
        raise UsageError(
            f"the bundle {bundle} takes {guard.spec.shape} and knows {guard.spec.class_names}: "
            f"the data have {spec.shape} and {spec.class_names}"
        )
    return guard


def assess_bundle(project: Project, bundle: Path) -> Json:
    """The guard beside the undefended model, the hardened net and the article's guard, under
    static and adaptive attackers; writes the bundle's evidence/."""
    config, data = project.config, project.data
    evidence = bundle / "evidence"
    guard = load_guard(project, bundle)
    inputs = _evidence_inputs(project, guard)
    if is_done(evidence, inputs):
        show.line(f"{evidence} is of these inputs already: skipped")
        return files.read_json(evidence / "comparison.json")
    x, y, rows = data["test"].sample(config.assess.rows, config.assess.seed)
    undefended = of_model(project.original(), data.spec, x)
    systems = _systems(project, guard, undefended, x)
    effort = Effort(config.assess.steps, config.assess.restarts, config.assess.queries)
    workers = os.cpu_count() or 1
    with show.bar("attack every system") as progress:
        found = compare(
            systems,
            undefended,
            x,
            y,
            project.threat,
            data["calibrate"].x,
            rows=rows,
            effort=effort,
            seed=config.assess.seed,
            workers=workers,
            progress=progress,
        )
    ours = next(row for row in found if row.name == "guard")
    few = slice(0, _BATTERY_ROWS)
    jobs = [
        partial(_curve, project, systems[-1], x, y, rows),
        partial(_battery, project, (undefended, systems[-1]), x[few], y[few]),
    ]
    with show.bar("curve over eps, masked gradients") as progress:
        progress(0, 1)
        curve, signs = side_by_side(jobs, workers)
        progress(1, 1)
    latency = added_latency(project.original(), guard, x)
    ours.adaptive.ledger.save(evidence / "ledger.npz")
    found[0].adaptive.ledger.save(evidence / "original.npz")
    save_examples(evidence / "examples.npz", ours.adaptive, x, guard.answer)
    files.write_json(evidence / "assessment.json", ours.adaptive.to_dict())
    files.write_json(evidence / "curve.json", {"digest": guard.digest, **curve})
    files.write_json(evidence / "battery.json", {"digest": guard.digest, **signs})
    files.write_json(evidence / "latency.json", {"digest": guard.digest, **asdict(latency)})
    value: Json = {"digest": guard.digest, "systems": [row.to_dict() for row in found]}
    files.write_json(evidence / "comparison.json", value)
    mark_done(evidence, inputs)
    return value


def _evidence_inputs(project: Project, guard: Guard) -> str:
    config = project.config
    sections = (config.assess, config.threat, config.harden, config.data)
    return project.inputs_of(guard.digest, *sections)


def _systems(project: Project, guard: Guard, undefended: Target, x: torch.Tensor) -> list[Target]:
    config, data = project.config, project.data
    systems = [undefended]
    names = config.harden.members
    if "adversarial" in names:
        systems.append(of_model(project.member("adversarial"), data.spec, x, "hardened net alone"))
    if config.assess.article and data.spec.is_image and data.spec.box == (0.0, 1.0):
        members = [project.member(name) for name in names]
        systems.append(of_guard(article(data, members), "article's guard", draws=4))
    return [*systems, of_guard(guard)]


def _curve(
    project: Project, target: Target, x: torch.Tensor, y: torch.Tensor, rows: torch.Tensor
) -> Json:
    """The guard at each eps of the curve, gradients only: fewer attacks than the headline's."""
    attack = PGD(steps=40, step_size=0.25, loss="selective", decay=True)
    threats = [project.threat_at(eps) for eps in project.config.threat.curve]
    return {"points": [assess(target, x, y, t, (attack,), rows=rows).to_dict() for t in threats]}


def _battery(project: Project, targets: Sequence[Target], x: torch.Tensor, y: torch.Tensor) -> Json:
    """Signs of masked gradients, by target."""
    return {target.name: battery(target, x, y, project.threat).to_dict() for target in targets}


def certify_bundle(project: Project, bundle: Path) -> Json:
    """Randomized smoothing of the guard's classifier; writes evidence/certificates.json."""
    section, data = project.config.certify, project.data
    guard = load_guard(project, bundle)
    x, y, rows = data["test"].sample(section.rows, project.config.assess.seed)
    with show.bar("certify") as progress:
        found = certify(
            guard.classifier(),
            x,
            sigma=section.sigma,
            n=section.n,
            n0=section.n0,
            alpha=section.alpha,
            rows=rows,
            progress=progress,
        )
    certificates = [
        {"row": int(row), "y": int(truth), **certificate.to_dict()}
        for row, truth, certificate in zip(rows, y, found, strict=True)
    ]
    value: Json = {
        "schema": "buckler.certificates/1",
        "digest": guard.digest,
        "about": "the guard's classifier smoothed with Gaussian noise, not the guard itself",
        "sentence": str(next((c for c in found if not c.abstained), found[0])),
        "abstained": sum(c.abstained for c in found),
        "certificates": certificates,
    }
    files.write_json(bundle / "evidence" / "certificates.json", value)
    return value


def check_bundle(project: Project, bundle: Path) -> Ruling:
    """Policy against the evidence; writes evidence/ruling.json."""
    evidence = bundle / "evidence"
    guard = load_guard(project, bundle)
    if not is_done(evidence, _evidence_inputs(project, guard)):
        raise DataError(
            f"{evidence} is missing, or was made with other settings, data or weights than "
            "buckler.toml names now: run buckler assess on this bundle"
        )
    section, threat = project.config.policy, project.config.threat
    policy = Policy(**section.model_dump(), norm=threat.norm, eps=threat.eps)
    comparison: Any = files.read_json(evidence / "comparison.json")
    signs: Any = files.read_json(evidence / "battery.json")["guard"]
    ours = next(row for row in comparison["systems"] if row["name"] == "guard")
    ruling = judge_evidence(
        policy,
        guard.digest,
        files.read_json(evidence / "assessment.json"),
        Ledger.load(evidence / "ledger.npz"),
        Ledger.load(evidence / "original.npz"),
        files.read_json(evidence / "latency.json"),
        struck=(*ours["struck"], *([] if signs["believable"] else [signs["sentence"]])),
    )
    files.write_json(evidence / "ruling.json", ruling.to_dict())
    return ruling
