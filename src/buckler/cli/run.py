"""buckler run: the whole chain from buckler.toml."""

from pathlib import Path

from buckler import files
from buckler.assess.check import Ruling
from buckler.cli import show
from buckler.cli.assess import say_assessed
from buckler.cli.build import say_built
from buckler.cli.options import CONFIG, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_assess import assess_bundle
from buckler.cli.steps_bundle import build_bundle
from buckler.cli.steps_certify import certify_bundle, say_certified
from buckler.cli.steps_check import check_bundle
from buckler.cli.steps_harden import harden_members
from buckler.cli.steps_model import assess_original, train_original
from buckler.cli.steps_report import write_page
from buckler.cli.tables import battery_table, comparison_table, ruling_table


def run(config: ConfigOption = CONFIG) -> None:
    """Assess, harden, build, attack, certify, check and report: everything, resumable.

    Exit code 0 whatever the ruling; `buckler check` is the gate.
    """
    run_chain(Project.read(config), "buckler run")


def run_chain(project: Project, command: str) -> Ruling:
    """Every step in order; each is skipped if its output is of the same inputs."""
    project.fresh_net()  # a file or an endpoint cannot be hardened: said before an hour is spent
    split = ", ".join(f"{name} {len(part)}" for name, part in project.data.splits.items())
    show.step("the data")
    show.line(f"{project.data.name}: {split} rows; {project.data.duplicates} duplicates dropped")
    if project.config.model.train:
        show.step("train the ordinary classifier")
        train_original(project)
    show.step("assess it: how easily is it fooled?")
    say_assessed(assess_original(project))
    show.step("harden: train the members")
    harden_members(project)
    show.step("build and calibrate the guard")
    say_built(build_bundle(project))
    show.step("attack everything, statically and adaptively")
    show.out.print(comparison_table(assess_bundle(project, project.bundle)))
    show.step("look for misled attacks: is this evaluation to be believed?")
    say_believed(project.bundle)
    show.step("certify a sample")
    say_certified(certify_bundle(project, project.bundle))
    show.step("check: may it be deployed?")
    ruling = check_bundle(project, project.bundle)
    show.out.print(ruling_table(ruling.to_dict()))
    for reason in ruling.struck:
        show.line(f"the adaptive figure does not stand: {reason}", "red")
    report = write_page(project, project.bundle, project.out / "report.html", command)
    show.line(f"wrote {report} and {project.bundle}")
    return ruling


def say_believed(bundle: Path) -> None:
    """The six questions by system, then a sentence each: red where the figure is struck."""
    found = files.read_json(bundle / "evidence" / "battery.json")
    batteries = {name: value for name, value in found.items() if isinstance(value, dict)}
    show.out.print(battery_table(batteries))
    for name, value in batteries.items():
        show.line(f"{name}: {value['sentence']}", None if value["believable"] else "red")
