"""What a person sees while a verb runs: progress bars on stderr, results on stdout."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from buckler.stats import Rate

# Not a terminal: a log, where a table may be as wide as it needs.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 130)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; yields the callback (done, total)."""
    columns = (
        TextColumn("  {task.description:<34}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=not sys.stderr.isatty()) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def step(title: str) -> None:
    out.print(f"[bold]{title}[/bold]")


def line(text: str, style: str | None = None) -> None:
    out.print(f"  {escape(text)}", style=style)


def rate(value: Rate | dict[str, float], digits: int = 1) -> str:
    """A rate with its 95 % interval, in percent."""
    facts = value if isinstance(value, dict) else vars(value)
    low, high = 100 * facts["low"], 100 * facts["high"]
    return f"{100 * facts['value']:.{digits}f} % [{low:.{digits}f}–{high:.{digits}f}]"
