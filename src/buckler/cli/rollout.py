"""buckler rollout: from the bundle that is live to the next one, by evidence; and by hand."""

import getpass
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from buckler.cli import show
from buckler.cli.opened import InputsOption, StoreOption, opened_store
from buckler.errors import UsageError

if TYPE_CHECKING:
    from buckler.store.rollouts import Kept

rollout = typer.Typer(
    help="Move clients to another bundle, 10 → 50 → 100 %: start, status, pause, resume, promote, "
    "rollback, abort.",
    no_args_is_help=True,
)
JsonOption = Annotated[bool, typer.Option("--json", help="All of it, as JSON.")]


@rollout.command()
def start(
    bundle: Annotated[Path, typer.Argument(help="Its folder, the same on every machine.")],
    store: StoreOption,
    inputs: InputsOption = None,
    digest: Annotated[str | None, typer.Option(help="Refuse any other bundle.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Of the policy, NAME=VALUE; repeatable.")
    ] = None,
) -> None:
    """Begin: the bundle must have passed buckler check, and fit the one that is live."""
    from buckler.serve.rollouts import begin

    with opened_store(store, inputs) as opened:
        kept = begin(
            opened, bundle, time.time(), getpass.getuser(), digest=digest, policy=_policy(set_)
        )
    _say(kept)


@rollout.command()
def status(store: StoreOption, inputs: InputsOption = None, as_json: JsonOption = False) -> None:
    """Where the rollout stands that runs, or that was the last one, and on what evidence."""
    from buckler.store import rollouts

    with opened_store(store, inputs) as opened:
        kept = rollouts.last(opened)
        if kept is None:
            show.line("there was no rollout on this store yet")
            return
        found = rollouts.status(opened, kept)
    if as_json:
        sys.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    _say(kept)
    evidence = found["evidence"]
    show.line(
        f"{evidence['loaded']} of {evidence['gateways']} gateways have it; "
        f"{evidence['pairs']['clients']['n']} pairs of {evidence['paired_clients']} clients, "
        f"{evidence['dropped']} dropped; {evidence['probes']} golden probes"
    )
    for question, share in evidence["worse"].items():
        good = evidence["as_good"][question]
        show.line(f"{question:<7} worse {_part(share)}   as good {_part(good)}   (1 is proof)")
    for each in evidence["lacks"]:
        show.line(f"lacks {each}")


@rollout.command()
def pause(store: StoreOption, inputs: InputsOption = None) -> None:
    """Move no more clients; a candidate that is worse is still rolled back."""
    _act("pause", store, inputs)


@rollout.command()
def resume(store: StoreOption, inputs: InputsOption = None) -> None:
    """Go on with the step that was paused, from its start."""
    _act("resume", store, inputs)


@rollout.command()
def promote(store: StoreOption, inputs: InputsOption = None) -> None:
    """Take the next step now, whatever is still lacking."""
    _act("promote", store, inputs)


@rollout.command()
def rollback(store: StoreOption, inputs: InputsOption = None) -> None:
    """All clients back to the stable bundle, within a second."""
    _act("rollback", store, inputs)


@rollout.command()
def abort(store: StoreOption, inputs: InputsOption = None) -> None:
    """End it, with nothing held against the bundle: all clients go back."""
    _act("abort", store, inputs)


def _act(verb: str, store: str, inputs: str | None) -> None:
    from buckler.store import rollouts

    with opened_store(store, inputs) as opened:
        kept = rollouts.running(opened)
        if kept is None:
            raise UsageError("no rollout runs on this store: begin one with buckler rollout start")
        now, who = time.time(), getpass.getuser()
        _say(rollouts.act(opened, kept.id, verb, rollouts.observe_all, now, who))


def _say(kept: "Kept") -> None:
    found = kept.rollout
    why = f": {found.reason}" if found.reason else ""
    of = f" of {found.paused}" if found.paused else ""
    show.line(f"rollout {kept.id} {found.state}{of}{why}")
    show.line(f"{kept.stable[:12]} → {kept.candidate[:12]}, {found.weight} % of clients")


def _part(share: float) -> str:
    return f"{max(share, 0.0):5.2f}"


def _policy(given: list[str] | None) -> dict[str, Any]:
    """Raises: UsageError for what is no NAME=VALUE."""
    found: dict[str, Any] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            equals = ""
        if not equals:
            raise UsageError(f"--set takes NAME=NUMBER, such as min_clients=5. Got {each!r}")
    return found
