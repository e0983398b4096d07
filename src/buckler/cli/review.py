"""buckler review: the queue of SUSPICIOUS inputs, from the command line."""

import getpass
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from buckler import files
from buckler.cli import show
from buckler.cli.opened import InputsOption, StoreOption, opened_store
from buckler.errors import UsageError

if TYPE_CHECKING:
    from buckler.store.engine import Store

ReviewerOption = Annotated[str | None, typer.Option(help="Your name; default: the login's.")]
SeniorOption = Annotated[bool, typer.Option("--senior", help="Take escalated items too.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As next printed it.")]

review = typer.Typer(
    help="The review queue: take the next item, decide, export what was decided; its policy.",
    no_args_is_help=True,
)


@review.command("next")
def next_(
    store: StoreOption,
    inputs: InputsOption = None,
    reviewer: ReviewerOption = None,
    senior: SeniorOption = False,
    folder: Annotated[Path, typer.Option(help="Where to write the input.")] = Path(),
) -> None:
    """Take the item to look at next, write its input to a file, and print it as JSON."""
    from buckler.store.reviews import claim
    from buckler.store.shared import read_policy

    with opened_store(store, inputs) as opened:
        policy = read_policy(opened)
        found = claim(opened, _name(reviewer), time.time(), policy, senior=senior)
        if found is None:
            show.line("nothing waits for you")
            return
        path = None
        if found.blob is not None:
            path = folder / f"{found.id}.{found.media_type.rpartition('/')[2]}"
            files.write_bytes(path, opened.blobs.get(found.blob))
    _print({**asdict(found), "input": str(path)})


@review.command()
def answer(
    review_id: IdArgument,
    label: Annotated[str, typer.Argument(help="What you say it is.")],
    store: StoreOption,
    inputs: InputsOption = None,
    reviewer: ReviewerOption = None,
) -> None:
    """In a blind queue: keep your own answer, then show the machine's."""
    from buckler.store.reviews import first_answer

    with opened_store(store, inputs) as opened:
        lease = _lease(opened, review_id, _name(reviewer))
        shown = first_answer(opened, review_id, lease, _name(reviewer), label, time.time())
    _print(asdict(shown))


@review.command()
def decide(
    review_id: IdArgument,
    kind: Annotated[str, typer.Argument(help="accept, label, adversarial, corrupted or unsure.")],
    store: StoreOption,
    inputs: InputsOption = None,
    reviewer: ReviewerOption = None,
    label: Annotated[str | None, typer.Option(help="The true class.")] = None,
    note: Annotated[str, typer.Option(help="Why.")] = "",
    version: Annotated[int | None, typer.Option(help="As you saw it; default: as it is.")] = None,
    group: Annotated[
        bool, typer.Option("--group", help="For all that stand behind it too.")
    ] = False,
    senior: SeniorOption = False,
) -> None:
    """Say what an item is."""
    from buckler.store.decide import Decision
    from buckler.store.decide import decide as keep
    from buckler.store.reviews import get
    from buckler.store.shared import read_policy

    with opened_store(store, inputs) as opened:
        policy, name = read_policy(opened), _name(reviewer)
        lease = _lease(opened, review_id, name)
        seen = get(opened, review_id, policy, name)
        if version is None and seen is not None:
            version = seen.version
        made = Decision(
            review_id,
            lease,
            name,
            version or 0,
            kind,
            label,
            note,
            senior=senior,
            whole_group=group,
        )
        _print(asdict(keep(opened, made, time.time(), policy)))


@review.command()
def undo(
    review_id: IdArgument,
    store: StoreOption,
    inputs: InputsOption = None,
    reviewer: ReviewerOption = None,
) -> None:
    """Take your decision back, while its lease would run."""
    from buckler.store.decide import undo as take_back
    from buckler.store.shared import read_policy

    with opened_store(store, inputs) as opened:
        policy = read_policy(opened)
        _print(asdict(take_back(opened, review_id, _name(reviewer), time.time(), policy)))


@review.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    store: StoreOption,
    inputs: InputsOption = None,
) -> None:
    """Write decided items as data: images/CLASS/, rows.npz, items.jsonl."""
    from buckler.store.export import export as write

    with opened_store(store, inputs) as opened:
        done = write(opened, folder, time.time(), _name(None))
    show.line(
        f"{done.images} images, {done.rows} rows, {done.unlabelled} without a class, "
        f"{done.redacted} redacted"
    )
    show.line(f"wrote {folder}")


@review.command()
def policy(
    store: StoreOption,
    inputs: InputsOption = None,
    agree: Annotated[int | None, typer.Option(help="So many equal answers decide ...")] = None,
    of: Annotated[int | None, typer.Option(help="... among so many reviewers.")] = None,
    blind: Annotated[
        bool | None, typer.Option("--blind/--open", help="One's own answer comes first, or not.")
    ] = None,
    lease_s: Annotated[float | None, typer.Option(help="Seconds an item is held.")] = None,
    due_s: Annotated[float | None, typer.Option(help="Seconds until it is due.")] = None,
    on_due: Annotated[str | None, typer.Option(help="alert, escalate or close.")] = None,
    client_cap: Annotated[int | None, typer.Option(help="Items of a client that wait.")] = None,
    known_share: Annotated[float | None, typer.Option(help="Share of known items.")] = None,
) -> None:
    """Say how the queue is run, for all gateways on the store, and print it as JSON."""
    from buckler.store.shared import read_policy, set_policy

    given = {
        "agree": agree,
        "of": of,
        "blind": blind,
        "lease_s": lease_s,
        "due_s": due_s,
        "on_due": on_due,
        "client_cap": client_cap,
        "known_share": known_share,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    with opened_store(store, inputs) as opened:
        found = replace(read_policy(opened), **changes)  # type: ignore[arg-type]
        if changes:
            set_policy(opened, found, time.time(), _name(None))
    _print(asdict(found))


@review.command()
def stats(store: StoreOption, inputs: InputsOption = None) -> None:
    """How the queue stands, as JSON."""
    from buckler.store.report import stats as count

    with opened_store(store, inputs) as opened:
        _print(asdict(count(opened, time.time())))


def _lease(store: "Store", review_id: str, reviewer: str) -> str:
    from buckler.ops.review import Policy
    from buckler.store.reviews import get

    found = get(store, review_id, Policy())
    if found is None or found.lease_by != reviewer or found.lease_id is None:
        raise UsageError(f"you do not hold {review_id}: take it with buckler review next")
    return found.lease_id


def _name(reviewer: str | None) -> str:
    return reviewer or getpass.getuser()


def _print(value: dict[str, Any]) -> None:
    show.out.print_json(data=value, indent=None)
