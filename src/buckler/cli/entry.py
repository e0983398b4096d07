"""Both commands' way in: errors raised on purpose become one sentence and an exit code."""

import os
import sys
from pathlib import Path

import typer
from rich.markup import escape

from buckler.cli import show
from buckler.errors import BucklerError

_INTERRUPTED = 130  # what typer makes of Ctrl-C
_EXIT_CODES = "Exit codes: 0 done, 1 policy says no, 2 wrong use, 3 broken input."


def command(name: str, about: str) -> typer.Typer:
    return typer.Typer(
        name=name,
        help=f"{about}\n\n{_EXIT_CODES}",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def enter(app: typer.Typer, interrupted: str) -> None:
    """Run the command line.

    interrupted: what to say to whoever pressed Ctrl-C.
    """
    sys.path.insert(0, str(Path.cwd()))  # where factories are looked up, as python -m has it
    try:
        app()
    except BucklerError as error:
        show.err.print(f"[red]{app.info.name}:[/red] {escape(str(error))}")
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            show.err.print(f"{app.info.name}: {interrupted}")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(_INTERRUPTED)  # an attack may still run in a thread: do not wait for it
        raise
