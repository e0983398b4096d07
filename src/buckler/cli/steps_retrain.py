"""The next bundle: reviewed rows pass the door, join the fit split, and the chain runs again."""

import hashlib
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from buckler import files
from buckler.cli import show
from buckler.cli.golden import NAME, Golden, golden_set, held, losses
from buckler.cli.project import Project, load_guard
from buckler.cli.reviewed import Reviewed, at_the_door, identity, report
from buckler.cli.steps_assess import assess_bundle
from buckler.cli.steps_bundle import build_bundle
from buckler.cli.steps_check import check_bundle
from buckler.cli.steps_harden import harden_members
from buckler.data import Split, row_hashes
from buckler.errors import PolicyError
from buckler.guard import Guard
from buckler.ops.retraining import GoldenLoss

Json = dict[str, Any]


@dataclass(frozen=True)
class Retrained:
    """The bundle of a retrain; refused: why it must not be rolled out, in one sentence."""

    bundle: Path
    refused: str = ""


def retrain_bundle(project: Project, parent: Path, export: Path) -> Retrained:
    """Run harden, build, assess and check on the data and the reviewed rows that enter.

    All of it is written to out/retrain/ID/, the ID being that of the parent, the rows and the
    settings: the same ones go on where they stopped. The bundle there is a draft: nothing serves
    it before a rollout. Its evidence/retrain.json names the parent and says what came of it.

    Raises: PolicyError if no row enters.
    """
    before = load_guard(project, parent)
    golden = golden_set(project, before)
    found = at_the_door(project, export)
    value = report(project, found)
    say_intake(value)
    if not found.entered:
        raise PolicyError(_none(value))
    folder = project.out / "retrain" / _identity(project, before, found)
    files.write_json(folder / "intake.json", value)
    after = _with_rows(project, found, folder)
    _copy(project.out / "model" / "weights.safetensors", folder / "model" / "weights.safetensors")
    show.step("harden: train the members")
    harden_members(after)
    show.step("build and calibrate the guard")
    build_bundle(after)
    bundle = after.bundle
    _copy(project.out / f"{NAME}.npz", bundle / f"{NAME}.npz")
    guard = load_guard(after, bundle)
    facts = {"parent": before.digest, "intake": value, "weights": _weights(project, after)}
    facts["golden"], worst = _golden(golden, before, guard)
    if worst:  # a ruling made before the golden set spoke against it must let nothing through
        for old in (bundle / "evidence").glob("ruling.*"):
            old.unlink()
        return _said(bundle, guard.digest, facts, worst)
    show.step("attack everything, statically and adaptively")
    assess_bundle(after, bundle)
    ruling = check_bundle(after, bundle)
    unmet = [item.name for item in ruling.items if not item.met] + list(ruling.struck)
    refused = "" if ruling.passed else f"the deployment check is not passed: {'; '.join(unmet)}"
    return _said(bundle, guard.digest, facts, refused)


def say_intake(value: Json) -> None:
    away = ", ".join(f"{count} {why}" for why, count in value["reasons"].items())
    show.line(
        f"{len(value['entered'])} of {value['asked']} reviewed rows enter"
        + (f"; turned away: {away}" if away else "")
    )


def _none(value: Json) -> str:
    """Why nothing enters, and what may be done."""
    share = value["door"]["client_share"]
    why = "no reviewed row enters the training set"
    if "the client's share" in value["reasons"]:
        return (
            f"{why}: with at most {share:.0%} of the rows from one client, rows of "
            f"{-int(-1 // share)} clients are needed at least. Got rows of "
            f"{len(value['asked_by_client'])} clients, {value['reasons']}"
        )
    if set(value["reasons"]) == {"too few agree"}:
        door = value["door"]
        return (
            f"{why}: of none did {door['agree']} of {door['of']} reviewers name the class. The "
            f"store asks as many with buckler review policy --agree {door['agree']} "
            f"--of {door['of']}"
        )
    return f"{why}: {value['reasons'] or 'the export is empty'}"


def _identity(project: Project, parent: Guard, found: Reviewed) -> str:
    config = project.config
    sections = (config.retrain, config.harden, config.guard, config.threat, config.data)
    inputs = project.inputs_of("retrain", *sections)
    text = f"{inputs} {parent.digest} {identity(found)}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _with_rows(project: Project, found: Reviewed, folder: Path) -> Project:
    """The project with the rows let in beside its own in fit, each as often as is configured."""
    entered = sorted(found.entered, key=lambda row: row.id)
    copies = project.config.retrain.copies
    x = torch.stack([found.x[row.id] for row in entered]).repeat_interleave(copies, 0)
    names = project.data.spec.class_names
    y = torch.tensor([names.index(str(row.label)) for row in entered]).repeat_interleave(copies)
    config = project.config.model_copy(update={"output": folder})
    return replace(project, config=config, added=Split(x, y, row_hashes(x)))


def _copy(source: Path, to: Path) -> None:
    if source.exists() and not to.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        part = to.with_name(f".{to.name}.part")
        shutil.copyfile(source, part)
        part.replace(to)


def _weights(project: Project, after: Project) -> Json:
    """How much the new rows weigh."""
    own, all_of_it = len(project.data["fit"]), len(after.data["fit"])
    copies = project.config.retrain.copies
    return {
        "rows": (all_of_it - own) // copies,
        "copies": copies,
        "fit": own,
        "share": (all_of_it - own) / all_of_it,
    }


def _golden(golden: Golden, before: Guard, after: Guard) -> tuple[Json, str]:
    """The candidate against its parent, and against the first bundle: half a point lost a month
    would be six points a year. The second value says which is refused, if one is."""
    mine = held(after, golden)
    told: Json = {"sha256": golden.sha256}
    refused = ""
    for name, other in (("parent", held(before, golden)), ("first", golden.held)):
        found = losses(golden, other, mine)
        told[name] = {kind: {**asdict(loss), "share": loss.share} for kind, loss in found.items()}
        for kind, loss in found.items():
            say_golden(name, kind, loss)
            if loss.refused:
                refused = refused or (
                    f"the golden set's {kind} rows lose {100 * loss.share:.2f} points against the "
                    f"{name} bundle ({loss.lost} lost, {loss.won} won of {loss.n}; at most 0.5 "
                    "points may be lost)"
                )
    return told, refused


def say_golden(name: str, kind: str, loss: GoldenLoss) -> None:
    show.line(
        f"golden {kind} rows against the {name} bundle: {loss.lost} lost, {loss.won} won of "
        f"{loss.n}",
        "red" if loss.refused else None,
    )


def _said(bundle: Path, digest: str, facts: Json, refused: str) -> Retrained:
    state = "REFUSED" if refused else "DRAFT"
    value = {"schema": "buckler.retrain/1", "digest": digest, "state": state, "why": refused}
    files.write_json(bundle / "evidence" / "retrain.json", {**value, **facts})
    return Retrained(bundle, refused)
