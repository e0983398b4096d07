"""buckler key: make a key for the gateway, or find the digest of one."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from buckler.cli import show
from buckler.errors import UsageError
from buckler.ops.access import ROLES, Key, digest_of, new_key, prefix_of

_DAY_S = 86_400.0

key = typer.Typer(help="Keys of the gateway: new, digest.", no_args_is_help=True)


@key.command()
def new(
    file: Annotated[Path, typer.Argument(help="TOML of [[key]]: written, or added to.")],
    id: Annotated[str, typer.Option(help="Who it is for.")],
    role: Annotated[list[str], typer.Option(help=f"{', '.join(ROLES)}; may be repeated.")],
    rows_per_s: Annotated[float, typer.Option(help="Rows a second in the long run.")] = 1e3,
    burst: Annotated[float | None, typer.Option(help="Rows at once; default: of 10 s.")] = None,
    days: Annotated[float | None, typer.Option(help="Until it expires; default: never.")] = None,
) -> None:
    """Make a key and print it, this once: the file holds its digest only.

    A gateway reads the file when it starts: BUCKLER_KEYS_FILE.
    """
    from buckler.serve.keys import add_key

    if days is not None and not days > 0:
        raise UsageError(f"days must be > 0. Got {days:g}")
    made = new_key()
    expires = None if days is None else time.time() + days * _DAY_S
    roles = frozenset(role)
    kept = Key(
        id,
        prefix_of(made),
        digest_of(made),
        roles,  # type: ignore[arg-type]
        rows_per_s,
        10 * rows_per_s if burst is None else burst,
        expires,
    )
    add_key(file, kept)
    show.err.print(
        f"the key {id!r} may {', '.join(sorted(roles))}; its digest is in {file}", markup=False
    )
    sys.stdout.write(made + "\n")


@key.command()
def digest() -> None:
    """Print the digest of the key on standard input, which no history keeps."""
    sys.stdout.write(digest_of(sys.stdin.readline().strip()) + "\n")
