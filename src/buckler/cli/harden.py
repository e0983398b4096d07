"""buckler harden: train the members."""

from buckler.cli import show
from buckler.cli.options import CONFIG, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_model import harden_members, train_original


def harden(config: ConfigOption = CONFIG) -> None:
    """Train the members the configuration names; an interrupted run goes on where it stopped."""
    project = Project.read(config)
    train_original(project)
    harden_members(project)
    show.line(f"wrote {project.out / 'members'}")
    show.line("next: buckler build")
