"""buckler check: may this bundle be deployed?"""

import typer

from buckler.cli import show
from buckler.cli.options import CONFIG, BundleArgument, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_bundle import check_bundle
from buckler.cli.tables import ruling_table


def check(bundle: BundleArgument = None, config: ConfigOption = CONFIG) -> None:
    """Hold the policy against the bundle's evidence: exit code 0 if it passes, 1 if not."""
    project = Project.read(config)
    bundle = bundle or project.bundle
    ruling = check_bundle(project, bundle)
    show.out.print(ruling_table(ruling.to_dict()))
    for reason in ruling.struck:
        show.line(f"the adaptive figure does not stand: {reason}", "red")
    show.line(f"wrote {bundle / 'evidence' / 'ruling.json'}")
    if not ruling.passed:
        raise typer.Exit(1)
