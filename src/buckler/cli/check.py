"""buckler check: may this bundle be deployed?"""

from pathlib import Path
from typing import Annotated

import typer

from buckler.cli import show
from buckler.cli.options import CONFIG, BundleArgument, ConfigOption
from buckler.cli.policy import read_policy
from buckler.cli.project import Project
from buckler.cli.steps_check import check_bundle
from buckler.cli.tables import ruling_table

PolicyOption = Annotated[
    Path | None, typer.Option(help="A TOML file with the keys of [policy], in its place.")
]
PreviousOption = Annotated[
    Path | None, typer.Option(help="The bundle before this one: nothing may be lost against it.")
]


def check(
    bundle: BundleArgument = None,
    config: ConfigOption = CONFIG,
    policy: PolicyOption = None,
    previous: PreviousOption = None,
) -> None:
    """Hold the policy against the bundle's evidence: exit code 0 if it passes, 1 if not."""
    project = Project.read(config)
    bundle = bundle or project.bundle
    section = project.config.policy if policy is None else read_policy(policy)
    if previous is not None:
        section = section.model_copy(update={"previous": previous})
    ruling = check_bundle(project, bundle, section)
    show.out.print(ruling_table(ruling.to_dict()))
    for reason in ruling.struck:
        show.line(f"the adaptive figure does not stand: {reason}", "red")
    show.line(f"wrote {bundle / 'evidence' / 'ruling.json'}")
    if not ruling.passed:
        raise typer.Exit(1)
