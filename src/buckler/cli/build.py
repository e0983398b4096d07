"""buckler build: choose, calibrate, write the bundle."""

from typing import Any

from buckler.cli import show
from buckler.cli.options import CONFIG, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_bundle import build_bundle


def build(config: ConfigOption = CONFIG) -> None:
    """Choose the members' weights, calibrate the guard and write the bundle."""
    project = Project.read(config)
    say_built(build_bundle(project))
    show.line(f"wrote {project.bundle}")
    show.line("next: buckler assess " + str(project.bundle))


def say_built(built: dict[str, Any]) -> None:
    weights = ", ".join(f"{name} {weight:g}" for name, weight in built["weights"].items())
    verify = built["verify"]
    show.line(f"digest {built['digest'][:12]}; weights of the mean: {weights}")
    show.line(
        f"review rate: {built['sentence']}; flagged on the verify split: {verify['flagged']} of "
        f"{verify['n']}"
    )
