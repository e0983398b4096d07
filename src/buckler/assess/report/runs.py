"""A run to compare: a bundle with evidence, a red team's run, or one assessment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buckler import files
from buckler.assess.evidence import read, read_if_there, verdict
from buckler.assess.ledger import Ledger
from buckler.assess.tradeoff import counts
from buckler.errors import DataError
from buckler.ops.impact import System, unguarded

Json = dict[str, Any]
_REDTEAM, _ASSESSMENT = "buckler.redteam/1", "buckler.assessment/1"


@dataclass(frozen=True)
class Run:
    """What was counted of one system.

    rates: success, clean_accuracy and the others, each with its interval. struck: why its success
    does not stand. system: the counts that money is told from; before: the same classifier without
    a guard. ledger: of the rows, where they were kept. tradeoff: the guard at other review rates.
    p95: added milliseconds.
    """

    name: str
    digest: str
    threat: Json
    rates: dict[str, Json]
    system: System
    struck: tuple[str, ...] = ()
    before: System | None = None
    ledger: Ledger | None = None
    tradeoff: Json | None = None
    p95: float | None = None


def read_run(path: Path, name: str = "") -> Run:
    """Args:
        path: a bundle's folder, a red team's run folder, or the JSON file of an assessment.
        name: what it is called; default: the path.

    Raises: DataError if it is none of these, broken, of another version or without a figure.
    """
    path, name = Path(path), name or str(path)
    try:
        if (path / "evidence").is_dir():
            return _bundle(path, name)
        if (path / "report.json").exists():
            return _counted(files.read_json(path / "report.json"), path / "report.json", name)
        if path.suffix == ".json":
            return _counted(files.read_json(path), path, name)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} holds a run in which {error} is missing: run it again") from None
    raise DataError(
        f"{path} is no run: give a bundle with evidence (buckler assess), a red team's run folder "
        "or the JSON file of an assessment"
    )


def _bundle(path: Path, name: str) -> Run:
    folder = path / "evidence"
    comparison = read(folder / "comparison.json")
    systems = {system["name"]: system for system in comparison["systems"]}
    guard = systems["guard"]
    if "success" not in guard["adaptive"]["rates"]:
        raise DataError(f"{path}: the guard gets no row right, so there is nothing to compare")
    ledger = Ledger.load(folder / "ledger.npz")
    found = counts(ledger)
    signs = (read_if_there(folder / "battery.json") or {}).get("guard")
    failed = [signs["sentence"]] if signs and verdict(signs) == "fail" else []
    plain = systems.get("undefended", {}).get("adaptive", {}).get("rates", {}).get("success")
    latency = read_if_there(folder / "latency.json")
    return Run(
        name=name,
        digest=comparison["digest"],
        threat=guard["adaptive"]["threat"],
        rates=guard["adaptive"]["rates"],
        system=System(name, found.missed, found.flagged_attacks, found.flagged_clean),
        struck=(*guard["struck"], *failed),
        before=None if plain is None else unguarded((plain["k"], plain["n"])),
        ledger=ledger,
        tradeoff=read_if_there(folder / "tradeoff.json"),
        p95=None if latency is None else latency["one"]["p95"],
    )


def _counted(value: Json, path: Path, name: str) -> Run:
    """A red team's report or an assessment: counts alone. What became of attacks that failed was
    not counted, so their reviews are not priced."""
    schema = value.get("schema")
    if schema not in (_REDTEAM, _ASSESSMENT):
        raise DataError(
            f"{path} is of the form {schema!r}, and this version of Buckler compares "
            f"{_REDTEAM!r} and {_ASSESSMENT!r}: make it anew"
        )
    given = value if schema == _REDTEAM else value["rates"]
    rates = {rate: given[rate] for rate in _RATES if rate in given}
    if "success" not in rates:
        raise DataError(f"{path} has no success rate: no row was attacked to the end")
    success, review = rates["success"], rates.get("review_rate")
    flagged = (review["k"], review["n"]) if review and review["k"] else None
    system = System(name, (success["k"], success["n"]), None, flagged)
    return Run(name, value.get("digest") or "", value["threat"], rates, system)


_RATES = ("success", "clean_accuracy", "accepted_right", "review_rate")
