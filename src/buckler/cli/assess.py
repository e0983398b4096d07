"""buckler assess: how easily is it fooled?"""

from typing import Any

from buckler.cli import show
from buckler.cli.options import CONFIG, BundleArgument, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_bundle import assess_bundle
from buckler.cli.steps_model import assess_original, train_original
from buckler.cli.tables import comparison_table, curve_table


def assess(bundle: BundleArgument = None, config: ConfigOption = CONFIG) -> None:
    """Attack the project's classifier; or, given a bundle, the guard and all it is compared with.

    Writes JSON and ledgers: into out/assessment/, or into the bundle's evidence/.
    """
    project = Project.read(config)
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
