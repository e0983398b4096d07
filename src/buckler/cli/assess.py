"""buckler assess: how easily is it fooled?"""

from typing import Annotated, Any

import typer

from buckler.attacks import suites
from buckler.cli import show
from buckler.cli.options import CONFIG, BundleArgument, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_assess import assess_bundle
from buckler.cli.steps_model import assess_original, train_original
from buckler.cli.steps_suite import assess_suite
from buckler.cli.tables import comparison_table, curve_table, suite_table

SuiteOption = Annotated[
    str | None,
    typer.Option(help=f"One suite of attacks alone: {', '.join(suites.NAMES)}."),
]


def assess(
    bundle: BundleArgument = None, config: ConfigOption = CONFIG, suite: SuiteOption = None
) -> None:
    """Attack the project's classifier; or, given a bundle, the guard and all it is compared with.

    Writes JSON and ledgers: into out/assessment/, or into the bundle's evidence/.
    """
    project = Project.read(config)
    if suite is not None:
        if bundle is None and project.config.model.train:
            train_original(project)
        value = assess_suite(project, suite, bundle)
        show.out.print(suite_table(value, f"{suite}: accepted and wrong"))
        folder = project.out / "assessment" if bundle is None else bundle / "evidence"
        show.line(f"wrote {folder / suite}.json")
        return
    if bundle is None:
        train_original(project)
        say_assessed(assess_original(project))
        show.line(f"wrote {project.out / 'assessment' / 'undefended.json'}")
        return
    show.out.print(comparison_table(assess_bundle(project, bundle)))
    show.line(f"wrote {bundle / 'evidence'}")


def say_assessed(value: dict[str, Any]) -> None:
    show.out.print(curve_table(value))
    for finding in value["findings"]:
        show.line(finding, "red")
