"""buckler init: a commented buckler.toml to fill in."""

from pathlib import Path
from typing import Annotated

import typer

from buckler import files
from buckler.cli import show
from buckler.cli.template import TEMPLATE
from buckler.errors import UsageError


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write it.")] = Path(),
    force: Annotated[bool, typer.Option(help="Replace one that is there.")] = False,
) -> None:
    """Write a commented buckler.toml."""
    path = folder / "buckler.toml"
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: --force replaces it")
    files.write_text(path, TEMPLATE)
    show.line(f"wrote {path}")
    show.line("next: fill in [model] and [data], then buckler run")
