"""The steps before there is a bundle: the classifier, its assessment, its hardened members."""

from pathlib import Path
from typing import Any

import torch

from buckler import files
from buckler.assess import Assessment, assess
from buckler.assess.pictures import save_examples
from buckler.attacks import suites
from buckler.cli import show
from buckler.cli.original import original_suite, original_target
from buckler.cli.project import Project, is_done, mark_done, save_weights
from buckler.harden import RECIPES, Hardened, RobustValidation, harden
from buckler.models import check_classifier
from buckler.threats import PixelBudget

FINDING = 0.20  # success at eps 0.1 over which a model needs immediate attention


def train_original(project: Project) -> None:
    """Train the factory's net, if the configuration says so; writes out/model/."""
    if not project.config.model.train:
        return
    folder = project.out / "model"
    inputs = project.inputs_of("model", project.config.model, project.config.data, model=False)
    if is_done(folder, inputs):
        show.line(f"{folder} is of these inputs already: skipped")
        return
    trained = train_standard(project, 0, folder / "checkpoint.safetensors")
    save_weights(trained.model, folder / "weights.safetensors")
    files.write_json(folder / "history.json", trained.history)
    mark_done(folder, inputs)


def train_standard(project: Project, seed: int, checkpoint: Path | None) -> Hardened:
    """The factory's net trained as an ordinary classifier."""
    fit, epochs = project.data["fit"], project.config.model.epochs
    check_classifier(project.fresh_net(seed).eval(), fit.x[:8], project.data.spec.classes)
    with show.bar(f"train the classifier, seed {seed}") as progress:
        return harden(
            project.fresh_net(seed),
            fit.x,
            fit.y,
            RECIPES["standard"](epochs, project.threat),
            _validation(project),
            seed=seed,
            checkpoint=checkpoint,
            progress=progress,
        )


def assess_original(project: Project) -> dict[str, Any]:
    """The undefended classifier over the curve of eps; writes out/assessment/."""
    folder = project.out / "assessment"
    config = project.config
    inputs = project.inputs_of("assess", config.threat, config.assess, config.data)
    if is_done(folder, inputs):
        show.line(f"{folder} is of these inputs already: skipped")
        return files.read_json(folder / "undefended.json")
    x, y, rows = project.data["test"].sample(config.assess.rows, config.assess.seed)
    target = original_target(project, x)
    suite = original_suite(project, x)
    found: list[Assessment] = []
    threats = [project.threat_at(eps) for eps in config.threat.curve]
    for threat in threats:
        with show.bar(f"assess at {threat}") as progress:
            found.append(
                assess(
                    target,
                    x,
                    y,
                    threat,
                    suite,
                    rows=rows,
                    seed=config.assess.seed,
                    each=True,
                    progress=progress,
                )
            )
    pixel = None
    if config.threat.one_pixel and project.data.spec.is_image:
        pixel = _one_pixel(project, target_x=x, target_y=y, rows=rows)
        save_examples(folder / "one_pixel.npz", pixel, x, target.answer)
    nearest = min(found, key=lambda a: abs(float(str(a.threat["eps"])) - config.threat.eps))
    save_examples(folder / "examples.npz", nearest, x, target.answer)
    value = {
        "schema": "buckler.curve/1",
        "points": [a.to_dict() for a in found],
        "one_pixel": pixel.to_dict() if pixel else None,
        "findings": _findings(project, found),
    }
    files.write_json(folder / "undefended.json", value)
    mark_done(folder, inputs)
    return value


def _one_pixel(
    project: Project, *, target_x: torch.Tensor, target_y: torch.Tensor, rows: torch.Tensor
) -> Assessment:
    target = original_target(project, target_x)
    threat = PixelBudget(1, project.data.spec.box)
    with show.bar("assess one pixel") as progress:
        return assess(
            target,
            target_x,
            target_y,
            threat,
            suites.pixels(),
            rows=rows,
            progress=progress,
        )


def _findings(project: Project, found: list[Assessment]) -> list[str]:
    """Sentences a person must read first: over a fifth broken within a tenth of the box, L∞."""
    low, high = project.data.spec.box
    radii = [(float(str(a.threat["eps"])), a) for a in found if a.threat["norm"] == "linf"]
    within = [(eps, a) for eps, a in radii if eps <= 0.1 * (high - low) + 1e-9]
    if not within:
        return []
    eps, point = max(within, key=lambda pair: pair[0])
    success = point.ledger.rates()["success"].value
    if success <= FINDING:
        return []
    return [
        f"Needs immediate attention: {success:.0%} of the rows it gets right are broken at eps "
        f"{eps:g} (over {FINDING:.0%})."
    ]


def _validation(project: Project) -> RobustValidation:
    select = project.data["select"]
    return RobustValidation(select.x, select.y, project.threat)


def seeds_summary(project: Project, seeds: int) -> dict[str, Any]:
    """Clean accuracy on the test split of the ordinary classifier, trained once a seed."""
    folder = project.out / "model"
    inputs = project.inputs_of("seeds", project.config.model, project.config.data)
    path = folder / "seeds.json"
    if path.exists() and files.read_json(path).get("inputs") == inputs:
        return files.read_json(path)
    test = project.data["test"]
    models = [project.original()]
    models += [train_standard(project, seed, None).model for seed in range(1, seeds)]
    accuracies = []
    for model in models:
        with torch.no_grad():
            accuracies.append(float((model(test.x).argmax(1) == test.y).float().mean()))
    value = {"inputs": inputs, "n": len(test), "accuracies": accuracies}
    value["mean"] = sum(accuracies) / len(accuracies)
    files.write_json(path, value)
    return value
