"""One named suite against the team's classifier or a bundle's guard."""

from pathlib import Path
from typing import Any

from buckler import files
from buckler.assess import Assessment, assess, of_guard
from buckler.attacks import Under, suites
from buckler.cli import show
from buckler.cli.original import original_target
from buckler.cli.project import Project, load_guard
from buckler.errors import UsageError
from buckler.models import differentiable

Json = dict[str, Any]
_IMAGES = ("physical", "unrestricted")


def assess_suite(project: Project, name: str, bundle: Path | None = None) -> Json:
    """Attack with the suite `name`; writes out/assessment/NAME.json, or BUNDLE/evidence/NAME.json.

    Suites with threats of their own (physical, unrestricted) leave threat.eps aside.

    Raises: UsageError for an unknown suite, one that needs gradients the model does not give or
        images, and a bundle for other inputs than the data's.
    """
    section, norm, spec = project.config.assess, project.config.threat.norm, project.data.spec
    suite = suites.by_name(name, norm=norm, queries=section.queries, box=spec.box)
    x, y, rows = project.data["test"].sample(section.rows, section.seed)
    if name in _IMAGES and len(spec.shape) < 2:
        raise UsageError(
            f"the suite {name!r} is for images, and these inputs have the shape {spec.shape}: "
            "take another suite"
        )
    if bundle is None:
        target, folder = original_target(project, x), project.out / "assessment"
    else:
        target, folder = of_guard(load_guard(project, bundle)), bundle / "evidence"
    if name != "blackbox" and not differentiable(target.view, x):
        raise UsageError(
            f"the suite {name!r} needs gradients, and {project.config.model.source} gives none: "
            "take --suite blackbox, or buckler assess without --suite"
        )
    own = next((attack.threat for attack in suite if isinstance(attack, Under)), None)
    threat = project.threat if own is None else own
    with show.bar(f"{name} suite") as progress:
        found = assess(target, x, y, threat, suite, rows=rows, seed=section.seed, progress=progress)
    value = {**found.to_dict(), "threats": _threats(suite, found)}
    files.write_json(folder / f"{name}.json", value)
    return value


def _threats(suite: suites.Suite, found: Assessment) -> Json:
    """What each attack was allowed."""
    return {
        attack.name: attack.threat.to_dict() if isinstance(attack, Under) else found.threat
        for attack in suite
    }
