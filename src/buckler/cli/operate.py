"""buckler-gateway: the verbs of whoever runs a gateway. They need no attack code, nor load any."""

import sys
from pathlib import Path

import typer
from rich.markup import escape

from buckler.cli import show
from buckler.cli.key import key
from buckler.cli.review import review
from buckler.cli.serve import serve
from buckler.cli.store import store
from buckler.errors import BucklerError

app = typer.Typer(
    name="buckler-gateway",
    help="Serve a bundle, and look after its keys, its store and its review queue.\n\n"
    "Exit codes: 0 done, 1 policy says no, 2 wrong use, 3 broken input.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.add_typer(key, name="key")
app.add_typer(review, name="review")
app.add_typer(store, name="store")


def main() -> None:
    """Errors raised on purpose become one sentence and an exit code."""
    sys.path.insert(0, str(Path.cwd()))  # where factories are looked up, as python -m has it
    try:
        app()
    except BucklerError as error:
        show.err.print(f"[red]buckler-gateway:[/red] {escape(str(error))}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
