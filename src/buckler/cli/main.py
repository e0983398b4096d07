"""The command line: one verb a file, one sentence an error, exit codes that mean something."""

import os
import sys
from pathlib import Path

import typer
from rich.markup import escape

from buckler.cli import show
from buckler.cli.assess import assess
from buckler.cli.build import build
from buckler.cli.certify import certify
from buckler.cli.check import check
from buckler.cli.demo import demo
from buckler.cli.harden import harden
from buckler.cli.init import init
from buckler.cli.key import key
from buckler.cli.predict import predict
from buckler.cli.redteam import redteam
from buckler.cli.review import review
from buckler.cli.run import run
from buckler.cli.serve import serve
from buckler.cli.store import store
from buckler.errors import BucklerError

_INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    name="buckler",
    help="Make a classifier hard to fool, show by how much, and keep it so in production.\n\n"
    "Exit codes: 0 done, 1 policy says no, 2 wrong use, 3 broken input.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (init, run, assess, harden, build, certify, check, predict, serve, redteam, demo):
    app.command()(verb)
app.add_typer(key, name="key")
app.add_typer(review, name="review")
app.add_typer(store, name="store")


def main() -> None:
    """Run the command line; errors raised on purpose become one sentence and an exit code."""
    sys.path.insert(0, str(Path.cwd()))  # where factories are looked up, as python -m has it
    try:
        app()
    except BucklerError as error:
        show.err.print(f"[red]buckler:[/red] {escape(str(error))}")
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            show.err.print(
                "buckler: interrupted; finished steps and the last checkpoint are kept: "
                "the same command goes on from there"
            )
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(_INTERRUPTED)  # an attack may still run in a thread: do not wait for it
        raise


if __name__ == "__main__":
    main()
