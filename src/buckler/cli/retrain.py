"""buckler retrain: the next bundle, of reviewed inputs and confirmed attacks."""

import getpass
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from buckler.cli import show
from buckler.cli.opened import InputsOption, opened_store
from buckler.cli.options import CONFIG, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_due import signs
from buckler.cli.steps_retrain import retrain_bundle
from buckler.errors import PolicyError, UsageError
from buckler.ops.owed import Limits, Signs, due

_NOT_OWED = 1  # exit code of --due

ExportArgument = Annotated[
    Path | None, typer.Argument(help="A folder of buckler review export; or give --store.")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", envvar="BUCKLER_STORE", help="Export from this store.")
]


def retrain(
    export: ExportArgument = None,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    inputs: InputsOption = None,
    parent: Annotated[
        Path | None, typer.Option(help="The bundle to follow; default: the project's own.")
    ] = None,
    owed: Annotated[
        bool, typer.Option("--due", help="Only say whether a retrain is owed: exit code 0 if so.")
    ] = False,
    if_due: Annotated[
        bool, typer.Option("--if-due", help="Retrain if one is owed; else say so and end.")
    ] = False,
) -> None:
    """Let reviewed rows into training, as far as they may, and make the next bundle: a draft.

    Exit code 1 if no row enters, the golden set loses more than 0.5 points, or the deployment check
    is not passed.
    """
    project = Project.read(config)
    parent = parent or project.bundle
    with _exported(project, export, store, inputs) as folder:
        if (owed or if_due) and not _say_due(
            project, signs(project, parent, folder, store, inputs)
        ):
            raise typer.Exit(_NOT_OWED if owed else 0)
        if owed:
            return
        if folder is None:
            raise UsageError("name the folder of an export, or the store with --store")
        done = retrain_bundle(project, parent, folder)
    show.line(f"wrote {done.bundle}")
    if done.refused:
        raise PolicyError(f"this bundle must not be rolled out: {done.refused}")
    show.line("a draft: no gateway serves it before a rollout")


def _say_due(project: Project, seen: Signs) -> bool:
    section = project.config.retrain
    found = due(seen, Limits(section.confirmed, section.wrong))
    for reason in found.reasons:
        show.line(f"a retrain is owed: {reason}")
    if not found:
        show.line("no retrain is owed")
    return bool(found)


@contextmanager
def _exported(
    project: Project, export: Path | None, store: str | None, inputs: str | None
) -> Iterator[Path | None]:
    """The export's folder; of a store, one that vanishes again."""
    if export is not None or store is None:
        yield export
        return
    from buckler.store.export import export as write

    project.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".reviewed.", dir=project.out) as place:
        folder = Path(place) / "export"
        with opened_store(store, inputs) as opened:
            write(opened, folder, time.time(), getpass.getuser())
        yield folder
