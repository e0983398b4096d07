"""The step that makes a bundle."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from buckler import files
from buckler.attacks import PGD
from buckler.cli import show
from buckler.cli.config import CostSection
from buckler.cli.project import Project, is_done, mark_done
from buckler.defenses import defense
from buckler.guard import Calibrated, Costs, Guard, calibrate, cheapest, write_bundle
from buckler.guard.bundle import MemberSource
from buckler.harden import (
    Scores,
    choose_detectors,
    choose_weights,
    transfer_matrix,
    usual_scores,
)
from buckler.threats import Goal

Json = dict[str, Any]
_FEW = 500  # rows on which members are compared


def build_bundle(project: Project) -> Json:
    """Choose the members' weights, calibrate the guard, write out/bundle/ and out/build.json."""
    config, data = project.config, project.data
    step = f"build {project.members_digest()}"
    sections = (config.guard, config.harden, config.threat, config.data)
    own = () if config.answer.mode == "plain" else (config.answer,)
    inputs = project.inputs_of(step, *sections, *own)
    record = project.out / "build"
    if is_done(record, inputs) and (project.bundle / "bundle.toml").exists():
        show.line(f"{project.bundle} is of these inputs already: skipped")
        return files.read_json(record / "build.json")
    names = project.member_names
    members = [project.member(name) for name in names]
    select = data["select"]
    with show.bar("choose the members' weights") as progress:
        best, tried = choose_weights(
            members,
            select.x,
            select.y,
            project.threat,
            review_rate=config.guard.review_rate,
            progress=progress,
        )
    rate = _attainable(config.guard.review_rate, len(data["calibrate"]))
    scores, compared = _scores(project, members, best.weights, rate)
    guard = calibrate(
        data,
        members,
        best.weights,
        views=[defense(name) for name in scores.views],
        path=[defense(name) for name in config.guard.path],
        detectors=scores.detectors,
        review_rate=rate,
        by_class=config.guard.by_class,
    )
    if config.guard.cost is not None:
        guard = _cheapest(project, guard, config.guard.cost)
    guard = replace(guard, answering=config.answer.answering())
    order = sorted(
        (i for i in range(len(names)) if best.weights[i] > 0), key=lambda i: -best.weights[i]
    )
    sources = [MemberSource(names[i], config.model.factory) for i in order]
    digest = write_bundle(guard, data, sources, project.bundle)
    _, accepted = guard.answer(data["verify"].x)
    value: Json = {
        "digest": digest,
        "weights": dict(zip(names, best.weights, strict=True)),
        "tried": [asdict(mixture) for mixture in tried],
        "members": list(names),
        "detectors": list(scores.detectors),
        "detectors_tried": [asdict(candidate) for candidate in compared],
        "transfer": transfer_matrix(members, select.x[:_FEW], select.y[:_FEW], project.threat),
        "threshold": asdict(_rule(guard).calibration),
        "sentence": _sentence(_rule(guard)),
        "verify": {"flagged": int((~accepted).sum()), "n": len(accepted)},
    }
    files.write_json(record / "build.json", value)
    mark_done(record, inputs)
    return value


def _attainable(rate: float, n: int) -> float:
    """The review rate asked for, or the least that n calibration rows allow."""
    least = 1 / (n + 1)
    if least > rate:
        show.line(
            f"{n} calibration rows allow a review rate of {least:.2%} at the least: taken instead "
            f"of {rate:.2%}",
            "yellow",
        )
    return max(rate, least)


def _scores(
    project: Project, members: Sequence[nn.Module], weights: Sequence[float], rate: float
) -> tuple[Scores, list[Scores]]:
    """The detectors and views of the configuration, or those that let least past under attack;
    and all that were tried."""
    section, data = project.config.guard, project.data
    if section.detectors != "auto":
        return Scores(section.detectors, section.views), []
    candidates = usual_scores(data.spec)
    with show.bar("choose the detectors") as progress:
        best, tried = choose_detectors(
            data,
            members,
            weights,
            candidates,
            project.threat,
            path=[defense(name) for name in section.path],
            review_rate=rate,
            progress=progress,
        )
    show.line(f"detectors: {', '.join(best.detectors)}")
    return best, tried


def _cheapest(project: Project, guard: Guard, cost: CostSection) -> Guard:
    """The guard at the review rate that costs least, by the select split under attack."""
    select, threat = project.data["select"], project.threat.with_goal(Goal("guarded"))
    attack = PGD(steps=50, step_size=0.25, loss="selective", decay=True, stop=False)
    x_adv = attack(guard.attack_view(), select.x, select.y, threat)
    (clean, doubt), (fooled, moved) = guard.suspicion(select.x), guard.suspicion(x_adv)
    wrong, wrong_after = (clean != select.y).numpy(), (fooled != select.y).numpy()
    costs = Costs(**cost.model_dump())
    found = cheapest(costs, doubt.numpy(), wrong, moved.numpy(), wrong_after)
    rate = found.rate_for(len(project.data["calibrate"]))
    show.line(f"a review rate of {rate:.2%} costs least: {found.cost:.4g} an input")
    return replace(guard, rule=_rule(guard).at(rate))


def _sentence(rule: Calibrated) -> str:
    """The promise of the review rate; of thresholds by class, the weakest one's."""
    if not rule.by_class:
        return rule.calibration.sentence()
    weakest = max(rule.by_class, key=lambda threshold: threshold.upper)
    return f"for each answer, the one with fewest rows: {weakest.sentence()}"


def _rule(guard: Guard) -> Calibrated:
    assert isinstance(guard.rule, Calibrated)
    return guard.rule
