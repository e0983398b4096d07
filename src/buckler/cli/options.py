"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The project's buckler.toml.", show_default=True)
]
BundleArgument = Annotated[
    Path | None, typer.Argument(help="A bundle folder; default: the project's own.")
]
CONFIG = Path("buckler.toml")
