"""The members: what each training costs, and the trainings, side by side."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from buckler import files
from buckler.assess.parallel import side_by_side
from buckler.cli import show
from buckler.cli.project import Project, is_done, mark_done, save_weights
from buckler.errors import DataError
from buckler.harden import (
    RECIPES,
    Hardened,
    MaskedValidation,
    Recipe,
    RobustValidation,
    estimate,
    harden,
    within,
)
from buckler.harden.occluded import Occluded
from buckler.harden.recipes import occluded
from buckler.protocols import Progress
from buckler.threats import LpBall, Patch


@dataclass(frozen=True)
class Training:
    """One member to train, and about how long it takes."""

    name: str
    recipe: Recipe
    seed: int
    seconds: float


def harden_members(project: Project, minutes: float | None = None) -> None:
    """Train every member but the standard one; writes out/members/."""
    folder = project.out / "members"
    config = project.config
    step = "harden, and the article's" if project.article else "harden"
    sections = (config.harden, config.threat, config.data)
    own = () if config.answer.mode == "plain" else (config.answer,)
    inputs = project.inputs_of(step, *sections, *own)
    if is_done(folder, inputs) and not (minutes is None and _cut_short(project, folder)):
        show.line(f"{folder} is of these inputs already: skipped")
        return
    workers = _workers(project)
    todo = _planned(project, folder, inputs, minutes, workers)
    if not todo:
        mark_done(folder, inputs)
        return
    total = sum(training.seconds for training in todo) / max(1, min(workers, len(todo)))
    names = ", ".join(f"{training.name} ({training.recipe.epochs} epochs)" for training in todo)
    show.line(f"about {_span(total)} for {names}")
    with show.bar("harden: " + ", ".join(t.name for t in todo)) as progress:
        shared = _Shared(progress, todo)
        limit = None if minutes is None else minutes * 60 * min(workers, len(todo)) / len(todo)
        nets = [
            _start(project, training.seed) for training in todo
        ]  # one generator for all threads
        jobs = [
            partial(_train, project, net, training, folder, limit, shared)
            for net, training in zip(nets, todo, strict=True)
        ]
        side_by_side(jobs, workers)
    mark_done(folder, inputs)


def _planned(
    project: Project, folder: Path, inputs: str, minutes: float | None, workers: int
) -> list[Training]:
    """The trainings, cut to the minutes where there are too many epochs for them. A plan that was
    written for these inputs stays: an interrupted run goes on with the same recipes."""
    names = [name for name in project.trained_names if name != "standard"]
    kept = _kept_plan(folder / "plan.json", inputs, minutes)
    fit, threat = project.data["fit"], project.threat_at(project.harden_eps)
    found, costs, share = [], {}, min(len(names), workers) / max(len(names), 1)
    for name in names:
        kind, _, number = name.partition("-")
        recipe = _recipe(project, kind, threat)
        if name in project.member_names:  # the article's own know nothing of it
            recipe = replace(recipe, awp=project.config.harden.awp)
            recipe = project.config.answer.fitted(recipe, project.data.spec)
        if recipe not in costs:
            judge = _validation(project, recipe)
            costs[recipe] = estimate(_start(project), fit.x, fit.y, recipe, judge)
        cost = costs[recipe]
        if name in kept:
            recipe = replace(recipe, epochs=kept[name])
        elif minutes is not None:
            recipe = within(recipe, cost, minutes * 60 * share)
        found.append(Training(name, recipe, int(number or 1) - 1, cost.of(recipe)))
    plan = {training.name: training.recipe.epochs for training in found}
    files.write_json(folder / "plan.json", {"inputs": inputs, "minutes": minutes, "epochs": plan})
    return found


def _recipe(project: Project, kind: str, threat: LpBall) -> Recipe:
    epochs = project.config.harden.epochs
    if kind == "occluded":
        return occluded(epochs, Patch(project.config.answer.patch))
    return RECIPES[kind](epochs, threat)


def _kept_plan(path: Path, inputs: str, minutes: float | None) -> dict[str, int]:
    try:
        plan: Any = files.read_json(path)
    except DataError:
        return {}
    same = plan.get("inputs") == inputs and plan.get("minutes") == minutes
    return dict(plan["epochs"]) if same else {}


def _cut_short(project: Project, folder: Path) -> bool:
    """Whether the members have fewer epochs than the configuration asks, for want of time then."""
    try:
        plan: Any = files.read_json(folder / "plan.json")
    except DataError:
        return False
    return any(epochs < project.config.harden.epochs for epochs in plan["epochs"].values())


def _train(
    project: Project,
    net: nn.Module,
    training: Training,
    folder: Path,
    limit: float | None,
    shared: "_Shared",
) -> Hardened:
    fit = project.data["fit"]
    trained = harden(
        net,
        fit.x,
        fit.y,
        training.recipe,
        _validation(project, training.recipe),
        seed=training.seed,
        judged_by=f"{project.threat} {project.data.digest()}",
        seconds=limit,
        checkpoint=folder / f"{training.name}.checkpoint.safetensors",
        progress=partial(shared.say, training.name),
    )
    save_weights(trained.model, folder / f"{training.name}.safetensors")
    files.write_json(folder / f"{training.name}.history.json", trained.history)
    return trained


class _Shared:
    """One bar for several trainings, in expected seconds."""

    def __init__(self, progress: Progress, todo: Sequence[Training]) -> None:
        self._progress = progress
        self._seconds = {training.name: training.seconds for training in todo}
        self._done = dict.fromkeys(self._seconds, 0.0)

    def say(self, name: str, done: int, total: int) -> None:
        self._done[name] = self._seconds[name] * done / total
        self._progress(int(sum(self._done.values())), max(1, int(sum(self._seconds.values()))))


def _start(project: Project, seed: int = 0) -> nn.Module:
    """What hardening begins with: the team's weights, or a fresh net where we trained it."""
    return project.fresh_net(seed) if project.config.model.train else project.original()


def _validation(project: Project, recipe: Recipe) -> RobustValidation | MaskedValidation:
    select = project.data["select"]
    if isinstance(recipe.objective, Occluded):
        return project.config.answer.validation(select.x, select.y)
    one_step = recipe.fallback is not None
    return RobustValidation(select.x, select.y, project.threat, one_step=one_step)


def _workers(project: Project) -> int:
    """How many nets train side by side: one where threads would share what they may not."""
    traced = "certified" in project.config.harden.members  # tracing patches every net's call
    return 1 if traced or _draws(project) else os.cpu_count() or 1


def _draws(project: Project) -> bool:
    """Whether the net draws from torch's generator in training, which all threads share."""
    net = _start(project).train()
    before = torch.random.get_rng_state()
    with torch.no_grad():
        net(project.data["fit"].x[:2])
    after = torch.random.get_rng_state()
    torch.random.set_rng_state(before)
    return not torch.equal(before, after)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
