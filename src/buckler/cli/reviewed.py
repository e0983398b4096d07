"""What `buckler review export` wrote, at the door to training."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buckler import files
from buckler.cli.project import Project
from buckler.data import SPLITS, row_hashes
from buckler.errors import DataError
from buckler.inputs import InputSpec
from buckler.ops.flood import fingerprint
from buckler.ops.retraining import Barred, Door, Intake, Row, Said, admit
from buckler.text.codes import from_utf8

Json = dict[str, Any]
_AT_ONCE = 64
_POWER = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}


@dataclass(frozen=True)
class Reviewed:
    """The rows of an export, their inputs by id (*shape), and what the door said of them."""

    rows: tuple[Row, ...]
    x: dict[str, Tensor]
    intake: Intake

    @property
    def entered(self) -> list[Row]:
        by_id = {row.id: row for row in self.rows}
        return [by_id[name] for name in self.intake.entered]


def door_of(project: Project) -> Door:
    section = project.config.retrain
    return Door(
        section.agree,
        section.of,
        section.client_share,
        section.class_share,
        section.copies,
        seed=section.seed,
    )


def at_the_door(project: Project, export: Path, since: float = 0.0) -> Reviewed:
    """Read an export and say of each row, decided since, whether it enters.

    A row within reach of one that chooses, calibrates or judges (harden's eps, in the threat's
    norm) is turned away: an attack on a test row, trained with its label, would be that row.

    Raises: DataError if the folder is no export of this version, or a file in it was altered.
    """
    lines = [line for line in _lines(export) if float(line["decided"] or 0) >= since]
    spec = project.data.spec
    x = {str(line["id"]): found for line, found in _inputs(export, lines, spec)}
    barred = _barred(project, x)
    try:
        rows = tuple(_row(line, x, barred) for line in lines)
    except (KeyError, TypeError) as error:
        raise _foreign(export, error) from None
    labels = project.data["fit"].y.tolist()
    classes = Counter(spec.class_names[label] for label in labels)
    sizes = {name: classes[name] for name in spec.class_names}
    return Reviewed(rows, x, admit(rows, sizes, door_of(project)))


def report(project: Project, found: Reviewed) -> Json:
    """What was let in and turned away, and why; by client and by class."""
    entered = found.entered
    fit = Counter(project.data.spec.class_names[y] for y in project.data["fit"].y.tolist())
    door = door_of(project)
    return {
        "schema": "buckler.intake/1",
        "asked": len(found.rows),
        "entered": [
            {"id": row.id, "client": row.client, "label": row.label, "outcome": row.outcome}
            for row in entered
        ],
        "turned_away": dict(sorted(found.intake.turned_away.items())),
        "reasons": found.intake.reasons(),
        "clients": dict(Counter(row.client for row in entered).most_common()),
        "asked_by_client": dict(Counter(row.client for row in found.rows).most_common()),
        "classes": {
            name: {"new": count, "fit": fit[name], "share": count * door.copies / fit[name]}
            for name, count in sorted(Counter(str(row.label) for row in entered).items())
        },
        "confirmed_attacks": sum(row.outcome == "adversarial" for row in entered),
        "door": vars(door),
    }


def _row(line: Json, x: dict[str, Tensor], barred: dict[str, Barred]) -> Row:
    name = str(line["id"])
    input_ = x.get(name)
    said = tuple(Said(str(each["reviewer"]), each["label"]) for each in line["said"])
    near = "" if input_ is None else fingerprint(input_.numpy())
    why: Barred | None = barred.get(name) if input_ is not None else "no input"
    return Row(name, str(line["key_id"]), str(line["outcome"]), line["label"], said, near, why)


def _barred(project: Project, x: dict[str, Tensor]) -> dict[str, Barred]:
    """Rows the data hold already, and those too near to one that must not train."""
    if not x:
        return {}
    data, names, rows = project.data, list(x), torch.stack(list(x.values()))
    known = set(data["fit"].hashes)
    held = torch.cat([data[split].x for split in SPLITS if split != "fit"]).flatten(1)
    power, reach = _POWER[project.config.threat.norm], project.harden_eps
    nearest = torch.cat(
        [torch.cdist(part, held, p=power).amin(1) for part in rows.flatten(1).split(_AT_ONCE)]
    )
    found: dict[str, Barred] = {}
    for name, digest, distance in zip(names, row_hashes(rows), nearest.tolist(), strict=True):
        if distance <= reach + 1e-6:
            found[name] = "held-out row"
        elif digest in known:
            found[name] = "in the data already"
    return found


def _lines(export: Path) -> list[Json]:
    path = export / "items.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except FileNotFoundError:
        raise DataError(
            f"{export} is no export: items.jsonl is missing. buckler review export writes one"
        ) from None
    except (OSError, ValueError) as error:
        raise _foreign(export, error) from None
    if not all(isinstance(line, dict) and {"id", "said", "decided"} <= set(line) for line in lines):
        raise _foreign(export, ValueError("a line without id, said or decided"))
    return lines


def _inputs(export: Path, lines: list[Json], spec: InputSpec) -> Iterator[tuple[Json, Tensor]]:
    """Inputs that can be trained on; one that is no input of this model has none."""
    numbers = _numbers(export / "rows.npz") if (export / "rows.npz").exists() else None
    for line in lines:
        name = line.get("file")
        if name is None or str(name).startswith("unlabelled/"):
            continue
        if name == "rows.npz":
            if numbers is None or not 0 <= int(line["index"]) < len(numbers):
                raise _foreign(export, ValueError(f"rows.npz lacks the row of {line['id']}"))
            found = numbers[int(line["index"])]
        else:
            content = _content(export, str(name), str(line.get("sha256")))
            if not spec.is_image and not spec.text:
                continue
            try:
                found = (spec.read([from_utf8(content)]) if spec.text else spec.decode(content))[0]
            except DataError:
                continue
        if tuple(found.shape) == spec.shape and _fits(found, spec):
            yield line, spec.snap(found)


def _fits(x: Tensor, spec: InputSpec) -> bool:
    try:
        spec.check(x[None])
    except DataError:
        return False
    return True


def _numbers(path: Path) -> Tensor:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return torch.from_numpy(np.ascontiguousarray(arrays["x"], np.float32))
    except Exception as error:  # numpy raises nearly anything over a damaged file
        raise DataError(f"{path} cannot be read as .npz: {error}") from None


def _content(export: Path, name: str, sha256: str) -> bytes:
    path = export / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{export} names a file outside itself: {name!r}")
    if not path.is_file() or files.sha256(path) != sha256:
        raise DataError(f"{path} is missing, or was altered after the export: export anew")
    return path.read_bytes()


def _foreign(export: Path, error: Exception) -> DataError:
    return DataError(
        f"{export} is not what this version of buckler review export writes "
        f"({type(error).__name__}: {error}): export anew"
    )


def identity(found: Reviewed) -> str:
    """sha256 over the rows let in and their labels."""
    digest = hashlib.sha256()
    for row in sorted(found.entered, key=lambda each: each.id):
        (content,) = row_hashes(found.x[row.id][None])
        digest.update(f"{content} {row.label}\n".encode())
    return digest.hexdigest()
