"""buckler init: a commented buckler.toml to fill in, or a draft of a table's feature spec."""

from pathlib import Path
from typing import Annotated

import typer

from buckler import files
from buckler.cli import show
from buckler.cli.template import TEMPLATE
from buckler.errors import UsageError
from buckler.threats.features.draft import draft, read_table
from buckler.threats.features.written import save_spec


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write it.")] = Path(),
    force: Annotated[bool, typer.Option(help="Replace one that is there.")] = False,
    tabular: Annotated[
        Path | None, typer.Option(help="Draft features.toml from this table (.csv, .parquet).")
    ] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="With --tabular: a column that is no feature (label).")
    ] = None,
    immutable: Annotated[
        list[str] | None, typer.Option(help="With --tabular: a column no attacker changes.")
    ] = None,
) -> None:
    """Write a commented buckler.toml, or draft a feature spec from a table."""
    path = folder / ("buckler.toml" if tabular is None else "features.toml")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: --force replaces it")
    if tabular is None:
        if leave_out or immutable:
            raise UsageError("--leave-out and --immutable go with --tabular FILE")
        files.write_text(path, TEMPLATE)
        show.line(f"wrote {path}")
        show.line("next: fill in [model] and [data], then buckler run")
        return
    spec = draft(read_table(tabular), immutable or (), leave_out or ())
    save_spec(spec, path)
    show.line(f"wrote {path}: {len(spec.features)} features, {len(spec.mutable)} that may change")
    show.line("next: say what no attacker can change, what each change costs, and which rules hold")
