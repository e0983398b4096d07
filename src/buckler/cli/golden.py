"""The golden set: rows of the project's own data that no retrain may get worse at.

golden.npz    x (n, ...), y (n,), attack (n,) bool, held (n,) bool: what the first bundle held
golden.json   sha256 of that file, the rows' hashes, the threat, the digest of the first bundle

Both lie in the project's output folder, written at the first retrain and never again: drawn from
the test split, so no review, training, choice or calibration touches them. The adversarial rows are
the clean ones under an attack on the undefended classifier, made for no guard, so that every bundle
is asked the same. A copy lies in the folder of each bundle made by a retrain, outside its digest,
where a rollout finds its probes.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from buckler import files
from buckler.attacks import PGD
from buckler.cli.project import Project
from buckler.data import SPLITS
from buckler.errors import DataError
from buckler.guard import Guard
from buckler.ops.retraining import GoldenLoss, golden_loss

NAME = "golden"
_ATTACK = PGD(steps=40, step_size=0.1)


@dataclass(frozen=True)
class Golden:
    """x (n, ...), y (n,) int64; attack (n,): attacked rows; held (n,): by the first bundle."""

    x: torch.Tensor
    y: torch.Tensor
    attack: torch.Tensor
    held: torch.Tensor
    sha256: str


def golden_set(project: Project, first: Guard) -> Golden:
    """The project's golden set; fixed now, with what `first` holds, if there is none yet.

    Raises: DataError if its file was altered, or its rows stand where they could be trained on.
    """
    folder = project.out
    if not (folder / f"{NAME}.json").exists():
        _fix(project, first, folder)
    return read_golden(project, folder)


def losses(golden: Golden, before: torch.Tensor, after: torch.Tensor) -> dict[str, GoldenLoss]:
    """Loss on the clean and on the adversarial rows. before, after: (n,) bool, rows held."""
    found = {}
    for name, rows in (("clean", ~golden.attack), ("adversarial", golden.attack)):
        found[name] = golden_loss(before[rows].tolist(), after[rows].tolist())
    return found


def held(guard: Guard, golden: Golden) -> torch.Tensor:
    """(n,) bool: right on a clean row; on an adversarial one right, or SUSPICIOUS."""
    predicted, accepted = guard.answer(golden.x)
    right = predicted == golden.y
    return torch.where(golden.attack, right | ~accepted, right)


def read_golden(project: Project, folder: Path) -> Golden:
    facts = files.read_json(folder / f"{NAME}.json")
    path = folder / f"{NAME}.npz"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if hashlib.sha256(content).hexdigest() != facts.get("sha256"):
        raise DataError(f"{path} was altered after it was fixed: bring back the file as it was")
    rows = facts.get("rows")
    known = set(rows) if isinstance(rows, list) else set()
    for split in SPLITS:
        if split != "test" and (both := known & set(project.data[split].hashes)):
            raise DataError(
                f"{len(both)} golden rows stand in the {split} split now: the data changed since "
                f"{folder / NAME}.json was written. Bring the data back, or move golden.json and "
                "golden.npz away to fix a new set"
            )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        x, y, attack, first = (
            torch.from_numpy(arrays[name]) for name in ("x", "y", "attack", "held")
        )
    return Golden(x, y, attack, first, str(facts["sha256"]))


def _fix(project: Project, first: Guard, folder: Path) -> None:
    section, test = project.config.retrain, project.data["test"]
    x, y, rows = test.sample(section.golden, section.seed)
    model, threat = project.original(), project.threat
    with torch.no_grad():
        right = model(x).argmax(1) == y
    x_adv = _ATTACK(model, x[right], y[right], threat, seed=section.seed, rows=rows[right])
    x_adv = project.data.spec.snap(x_adv)
    with torch.no_grad():
        fooled = model(x_adv).argmax(1) != y[right]
    many = torch.cat([x, x_adv[fooled]])
    truth = torch.cat([y, y[right][fooled]])
    attack = torch.arange(len(many)) >= len(x)
    golden = Golden(many, truth, attack, torch.zeros(len(many), dtype=torch.bool), "")
    stream = io.BytesIO()
    np.savez(
        stream,
        x=many.numpy(),
        y=truth.numpy(),
        attack=attack.numpy(),
        held=held(first, golden).numpy(),
    )
    content = stream.getvalue()
    files.write_bytes(folder / f"{NAME}.npz", content)
    files.write_json(
        folder / f"{NAME}.json",
        {
            "schema": "buckler.golden/1",
            "sha256": hashlib.sha256(content).hexdigest(),
            "rows": [test.hashes[row] for row in rows.tolist()],
            "threat": threat.to_dict(),
            "first": first.digest,
            "clean": len(x),
            "adversarial": int(fooled.sum()),
        },
    )
