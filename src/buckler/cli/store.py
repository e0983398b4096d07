"""buckler store: make, upgrade, check, copy, clean and close what a gateway keeps."""

import getpass
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from buckler.cli import show
from buckler.cli.opened import InputsOption, StoreOption, opened_store
from buckler.errors import UsageError

_DAY_S = 86_400.0

store = typer.Typer(
    help="The store of a gateway: schema, copies, erasure, keys and users.", no_args_is_help=True
)


@store.command()
def init(url: StoreOption, inputs: InputsOption = None) -> None:
    """Make a store, or bring an older one to this version."""
    from buckler.store.engine import open_store
    from buckler.store.migrate import head

    open_store(url, inputs).close()
    show.line(f"the store is at version {head()}")


@store.command()
def downgrade(
    version: Annotated[str, typer.Argument(help="A version, or base: without any table.")],
    url: StoreOption,
    inputs: InputsOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="What newer versions keep is lost.")] = False,
) -> None:
    """Take the tables back to an older version. Make a copy first."""
    from buckler.store import migrate

    if not yes:
        raise UsageError("going back loses what newer tables hold: copy the store, then say --yes")
    with opened_store(url, inputs) as opened:
        migrate.downgrade(opened.durable, version)
    show.line(f"the store is at version {version}")


@store.command()
def check(url: StoreOption, inputs: InputsOption = None) -> None:
    """Read everything; exit code 3 if anything is not as it was written."""
    from buckler.store import audit, care

    with opened_store(url, inputs) as opened:
        wrong = care.check(opened)
        with opened.read() as connection:
            number, digest = audit.head(connection)
    for sentence in wrong:
        show.line(sentence, "red")
    show.line(f"the audit's last row is {number}, {digest}")
    if wrong:
        raise typer.Exit(3)


@store.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    url: StoreOption,
    inputs: InputsOption = None,
) -> None:
    """Copy a store on SQLite, running or not."""
    from buckler.store.backup import backup as copy

    with opened_store(url, inputs) as opened:
        made = copy(opened, folder, time.time())
    show.line(f"wrote {folder}: {made.inputs} inputs; the audit's last row is {made.head[0]}")


@store.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="A copy that backup wrote.")],
    url: StoreOption,
    inputs: InputsOption = None,
) -> None:
    """Make a store from a copy, and check it."""
    from buckler.store.backup import restore as bring_back

    bring_back(folder, url, inputs).close()
    show.line("restored, and checked")


@store.command()
def retain(
    url: StoreOption,
    inputs: InputsOption = None,
    events: Annotated[float, typer.Option(help="Days that events are kept.")] = 30.0,
    decided_inputs: Annotated[float, typer.Option(help="Days, from the decision.")] = 90.0,
    reviews: Annotated[float, typer.Option(help="Days, from the decision.")] = 365.0,
) -> None:
    """Remove what is older, and inputs that a dead process left. What waits is kept."""
    from buckler.store import care

    days = (each * _DAY_S for each in (events, decided_inputs, reviews))
    with opened_store(url, inputs) as opened:
        removed = care.retain(opened, time.time(), care.Retention(*days))
        swept = care.sweep(opened, time.time())
    said = ", ".join(f"{count} {name}" for name, count in removed.items())
    show.line(f"removed {said}, {swept} inputs without a row")


@store.command()
def erase(
    url: StoreOption,
    inputs: InputsOption = None,
    client: Annotated[str | None, typer.Option(help="Every row of the key of this id.")] = None,
    review: Annotated[str | None, typer.Option(help="One row, by its review id.")] = None,
) -> None:
    """Forget rows for good; the audit keeps that it was done."""
    from buckler.store import care
    from buckler.store.shared import read_policy

    if (client is None) == (review is None):
        raise UsageError("erase takes one of --client and --review")
    with opened_store(url, inputs) as opened:
        actor, now, count = getpass.getuser(), time.time(), 1
        if client is not None:
            count = care.erase_client(opened, client, now, actor)
        elif review is not None:
            care.erase_review(opened, review, now, actor, read_policy(opened))
    show.line(f"erased {count} rows")


@store.command("key")
def key_(
    name: Annotated[str, typer.Argument(help="Who it is for; with --rotate or --revoke, its id.")],
    url: StoreOption,
    inputs: InputsOption = None,
    role: Annotated[list[str] | None, typer.Option(help="May be repeated; infer if none.")] = None,
    rows_per_s: Annotated[float, typer.Option(help="Rows a second in the long run.")] = 1000.0,
    days: Annotated[float | None, typer.Option(help="Until it expires; default: never.")] = None,
    rotate: Annotated[bool, typer.Option("--rotate", help="The old one ends in a day.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="It ends now.")] = False,
) -> None:
    """Make a key and print it, this once: the store holds its digest only."""
    from buckler.store.keys import add_key, revoke_key, rotate_key

    now, actor = time.time(), getpass.getuser()
    with opened_store(url, inputs) as opened:
        if revoke:
            revoke_key(opened, name, now, actor)
            show.line(f"the key {name} is revoked")
            return
        if rotate:
            made, text = rotate_key(opened, name, now, actor)
        else:
            made, text = add_key(
                opened,
                name,
                role or ["infer"],
                now,
                actor,
                rows_per_s=rows_per_s,
                burst=max(1.0, 10 * rows_per_s),
                expires=None if days is None else now + days * _DAY_S,
            )
    show.err.print(f"the key {made.id} may {', '.join(sorted(made.roles))}", markup=False)
    sys.stdout.write(text + "\n")


@store.command()
def user(
    name: Annotated[str, typer.Argument(help="A new user, or with --password an old one.")],
    url: StoreOption,
    inputs: InputsOption = None,
    role: Annotated[list[str] | None, typer.Option(help="May be repeated; review if none.")] = None,
    senior: Annotated[bool, typer.Option("--senior", help="Decides escalated items.")] = False,
    password: Annotated[bool, typer.Option("--password", help="Change the password.")] = False,
) -> None:
    """Add a person who logs in. The password is the first line of standard input."""
    from buckler.store.users import add_user, set_password

    now, actor = time.time(), getpass.getuser()
    given = sys.stdin.readline().rstrip("\n")
    with opened_store(url, inputs) as opened:
        if password:
            set_password(opened, name, given, now, actor)
        else:
            add_user(opened, name, given, role or ["review"], now, actor, senior=senior)
    show.line(f"{name} may log in")
