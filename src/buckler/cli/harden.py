"""buckler harden: train the members."""

from typing import Annotated

import typer

from buckler.cli import show
from buckler.cli.options import CONFIG, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_harden import harden_members
from buckler.cli.steps_model import train_original


def harden(
    config: ConfigOption = CONFIG,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Train for at most so long, with fewer epochs.")
    ] = None,
) -> None:
    """Train the members the configuration names; an interrupted run goes on where it stopped."""
    project = Project.read(config)
    train_original(project)
    harden_members(project, minutes)
    show.line(f"wrote {project.out / 'members'}")
    show.line("next: buckler build")
