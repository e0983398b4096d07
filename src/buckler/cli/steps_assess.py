"""The evidence on a bundle: every system attacked, what each part is worth, what is too good."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from buckler import files
from buckler.assess import Assessment, Battery, assess, battery, of_guard, of_model
from buckler.assess.ablation import ablation
from buckler.assess.battery import Effort as Looks
from buckler.assess.battery import report_rules
from buckler.assess.compare import Compared, Effort, compare
from buckler.assess.evidence import SCHEMA, hardware
from buckler.assess.folklore import noisy, range_check, voting
from buckler.assess.latency import latencies
from buckler.assess.parallel import shares, side_by_side
from buckler.assess.pictures import held, save_examples
from buckler.assess.plausibility import Alarm, beyond_known, plausible
from buckler.assess.target import Target
from buckler.assess.tradeoff import tradeoff
from buckler.attacks import PGD, OrthogonalPGD, Square
from buckler.attacks.suites import strong
from buckler.cli import show
from buckler.cli.project import ARTICLE, Project, is_done, load_guard, mark_done
from buckler.guard import Guard, article
from buckler.protocols import Progress
from buckler.stats import Rate, wilson

Json = dict[str, Any]
_FEW = 200  # rows of the battery and of the ablation
_DRAWS = 8


def assess_bundle(project: Project, bundle: Path) -> Json:
    """The guard beside the undefended model, the hardened net, the article's guard and defences
    that do not hold, under static and adaptive attackers; writes the bundle's evidence/."""
    config, data = project.config, project.data
    evidence = bundle / "evidence"
    guard = load_guard(project, bundle)
    inputs = evidence_inputs(project, guard)
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
    about = _around(project, guard, systems, found, (x, y, rows))
    _keep(evidence, guard, found, x)
    value: Json = {"hardware": hardware(), "systems": [row.to_dict() for row in found]}
    _write(evidence, guard, {**about, "comparison": value})
    mark_done(evidence, inputs)
    return value


def _around(
    project: Project,
    guard: Guard,
    systems: Sequence[Target],
    found: Sequence[Compared],
    drawn: tuple[Tensor, Tensor, Tensor],
) -> dict[str, Json]:
    """The evidence beside the comparison, by file."""
    x, y, rows = drawn
    ours, few = _ours(found), slice(0, _FEW)
    section, workers = project.config.assess, os.cpu_count() or 1
    curve, batteries = _curve_and_batteries(project, systems[0], systems[-1], x, y, rows)
    with show.bar("each part taken out") as progress:
        parts = ablation(
            guard, project.data, x[few], y[few], project.threat, rows=rows[few], workers=workers,
            progress=progress,
        )  # fmt: skip
    with show.bar("the guard at other review rates") as progress:
        rates = tradeoff(
            guard, x, y, ours.static.x_adv, project.threat, rows=rows, seed=section.seed,
            steps=section.steps, progress=progress,
        )  # fmt: skip
    alarms = _alarms(project, guard, ours, x, y, rows)
    rules = report_rules(alarms, parts, ours.adaptive.to_dict())
    batteries["guard"] = batteries["guard"].adding(rules)
    latency = latencies(project.original(), guard, x)
    return {
        "curve": curve,
        "battery": {name: each.to_dict() for name, each in batteries.items()},
        "ablation": {"parts": [part.to_dict() for part in parts]},
        "tradeoff": rates,
        "alarms": {"alarms": [alarm.to_dict() for alarm in alarms]},
        "latency": {path: asdict(each) for path, each in latency.items()},
    }


def _ours(found: Sequence[Compared]) -> Compared:
    return next(row for row in found if row.name == "guard")


def _keep(evidence: Path, guard: Guard, found: Sequence[Compared], x: Tensor) -> None:
    """Row by row: the guard's ledger and the original's, and a few inputs to look at."""
    ours, original = _ours(found).adaptive, found[0].adaptive
    ours.ledger.save(evidence / "ledger.npz")
    original.ledger.save(evidence / "original.npz")
    files.write_json(evidence / "assessment.json", ours.to_dict())
    for name, keep in (("examples", None), ("held", held(ours.ledger))):
        path = evidence / f"{name}.npz"
        save_examples(path, ours, x, guard.answer, keep=keep, sees=guard.sees)


def _write(evidence: Path, guard: Guard, about: dict[str, Json]) -> None:
    for name, facts in about.items():
        files.write_json(
            evidence / f"{name}.json", {"schema": SCHEMA, "digest": guard.digest, **facts}
        )


def evidence_inputs(project: Project, guard: Guard) -> str:
    config = project.config
    sections = (config.assess, config.threat, config.harden, config.data)
    return project.inputs_of(f"{SCHEMA} {guard.digest} {project.members_digest()}", *sections)


def _systems(project: Project, guard: Guard, undefended: Target, x: Tensor) -> list[Target]:
    data = project.data
    systems = [undefended]
    hardened = [name for name in project.member_names if name != "standard"]
    if hardened:
        systems.append(of_model(project.member(hardened[0]), data.spec, x, "hardened net alone"))
    if project.article:
        original, members = project.original(), [project.member(name) for name in ARTICLE]
        systems.append(range_check(original, data.spec))
        systems.append(noisy(original, data.spec, average=_DRAWS))
        systems.append(voting(members, data.spec))
        systems.append(of_guard(article(data, members), "article's guard", draws=4))
    return [*systems, of_guard(guard)]


def _curve_and_batteries(
    project: Project, undefended: Target, guarded: Target, x: Tensor, y: Tensor, rows: Tensor
) -> tuple[Json, dict[str, Battery]]:
    with show.bar("curve over eps, is it to be believed") as progress:
        one, other = shares(progress, 2)
        jobs: list[Callable[[], Any]] = [
            partial(_curve, project, guarded, x, y, rows, one),
            partial(_batteries, project, undefended, guarded, x[:_FEW], y[:_FEW], other),
        ]
        curve, batteries = side_by_side(jobs, os.cpu_count() or 1)
    return curve, batteries


def _curve(
    project: Project, target: Target, x: Tensor, y: Tensor, rows: Tensor, progress: Progress
) -> Json:
    """The guard at each eps of the curve, attack by attack: fewer of them than the headline's."""
    section = project.config
    both = (
        PGD(steps=40, step_size=0.25, loss="selective", decay=True, name="PGD-selective"),
        OrthogonalPGD(steps=40, name="PGD-orthogonal"),
    )
    gradients = both[:1] if section.threat.norm == "l1" else both
    suite = (*gradients, Square(queries=max(1, section.assess.queries // 2)))
    parts = shares(progress, len(section.threat.curve))
    points = []
    for eps, part in zip(section.threat.curve, parts, strict=True):
        threat = project.threat_at(eps)
        found = assess(target, x, y, threat, suite, rows=rows, each=True, progress=part)
        points.append(found.to_dict())
    return {"points": points}


def _batteries(
    project: Project,
    undefended: Target,
    guarded: Target,
    x: Tensor,
    y: Tensor,
    progress: Progress,
) -> dict[str, Battery]:
    """The checks on each evaluation, by target."""
    threat, section = project.threat, project.config.assess
    # The costly checks at a fraction: whatever they find gets its second look.
    queries = max(50, section.queries)
    effort = Looks(
        rows=_FEW, steps=min(40, max(20, section.steps)), queries=2 * queries, noise=2 * queries,
        noise_rows=50, decision_rows=20, decision_queries=queries, points=20,
    )  # fmt: skip
    one, other = shares(progress, 2)
    first = battery(undefended, x, y, threat, effort=effort, progress=one)
    second = battery(guarded, x, y, threat, effort=effort, undefended=undefended, progress=other)
    return {undefended.name: first, guarded.name: second}


def _alarms(
    project: Project, guard: Guard, ours: Compared, x: Tensor, y: Tensor, rows: Tensor
) -> list[Alarm]:
    """What is too good to be true: the guard against its heaviest member at half the radius, and
    against the best published figure where there is one."""
    threat = project.config.threat
    half = project.threat_at(threat.eps / 2)
    bare = of_model(guard.members[0].module, project.data.spec, x, "member")
    member: Assessment = assess(bare, x, y, half, strong(threat.norm), rows=rows)
    mine, theirs = ours.adaptive.ledger.rates(), member.ledger.rates()
    found = [
        plausible(
            mine["success"], mine["clean_accuracy"].value, theirs["success"],
            theirs["clean_accuracy"].value,
        ),
        beyond_known(project.data.name, threat.norm, threat.eps, _held(ours)),
    ]  # fmt: skip
    return [alarm for alarm in found if alarm is not None]


def _held(found: Compared) -> Rate:
    """Right, and never accepted and wrong, over all rows."""
    ledger = found.adaptive.ledger
    return wilson(int((ledger.right & ~ledger.broken).sum()), len(ledger.row))
