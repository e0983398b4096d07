"""A finding: an input that fools the target, as files another person can send again."""

import base64
import hashlib
import io
import re
import shlex
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buckler import files
from buckler.assess.redteam.ids import Family
from buckler.assess.redteam.journal import Journal
from buckler.errors import DataError, UsageError
from buckler.inputs import InputSpec
from buckler.look import difference_uri
from buckler.protocols import Classifier, Threat

SCHEMA = "buckler.finding/1"
_AS_FILE = {True: "wins", False: "not as a file", None: "not asked: the budget was spent"}
Json = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One row that one attack has won.

    x, x_adv (1, ...): before, and the point that won as it was sent. filed (1, ...): the nearest
    point inside the threat that an 8-bit file can hold, if inputs are such files. as_file: whether
    that point wins too; None if nobody could ask.
    """

    row: int
    y: int
    attack: str
    parameters: str
    family: Family
    seed: int
    x: Tensor
    x_adv: Tensor
    before: Json
    after: Json
    distance: float
    queries: int
    filed: Tensor | None
    as_file: bool | None

    @property
    def name(self) -> str:
        return folder_name(self.row, self.attack)


@dataclass(frozen=True)
class Replay:
    """What the target said to both files today."""

    clean: Json
    adversarial: Json
    works: bool


def folder_name(row: int, attack: str) -> str:
    return f"{row}-{re.sub('[^a-z0-9]+', '-', attack.lower()).strip('-')}"


def is_file(spec: InputSpec) -> bool:
    """Whether an input is an image that a PNG holds bit for bit."""
    return spec.is_image and (spec.levels == 256 or spec.is_deep)


def as_file(spec: InputSpec, threat: Threat, x: Tensor, x_adv: Tensor) -> Tensor:
    """The nearest file inside the threat: rounded, or cut towards x where that leaves it."""
    rounded = spec.snap(x_adv)
    if bool(threat.contains(x, rounded).all()):
        return rounded
    step = (spec.box[1] - spec.box[0]) / (spec.levels - 1)
    return spec.snap(x + torch.trunc((x_adv - x) / step) * step)


def write_finding(
    finding: Finding, folder: Path, spec: InputSpec, threat: Threat, facts: Json
) -> None:
    """Write clean and adversarial input, the difference, and finding.json into `folder`.

    Args:
        facts: of the run: the target, its digest, versions.
    """
    point = finding.filed if finding.as_file and finding.filed is not None else finding.x_adv
    contents = {"clean.npy": _npy(finding.x[0]), "adversarial.npy": _npy(point[0])}
    if is_file(spec):
        contents["clean.png"] = spec.encode(finding.x[0])
        if finding.as_file:
            contents["adversarial.png"] = spec.encode(point[0])
    if spec.is_image:
        contents["difference.png"] = _difference(finding.x[0], point[0])
    value = {
        "schema": SCHEMA,
        "row": finding.row,
        "y": spec.class_names[finding.y],
        "attack": {"name": finding.attack, "parameters": finding.parameters},
        "seed": finding.seed,
        "threat": threat.to_dict(),
        "before": finding.before,
        "after": finding.after,
        "distance": finding.distance,
        "queries": finding.queries,
        "as_file": _AS_FILE[finding.as_file] if is_file(spec) else "inputs are no 8-bit images",
        "ids": finding.family.to_dict(),
        "input": spec.to_dict(),
        "sha256": {name: hashlib.sha256(each).hexdigest() for name, each in contents.items()},
        "replay": f"buckler redteam --replay {shlex.quote(str(folder))}",
        **facts,
    }
    with files.new_folder(folder) as new:
        for name, content in contents.items():
            files.write_bytes(new / name, content)
        files.write_json(new / "finding.json", value)


def read_finding(folder: Path) -> tuple[Json, InputSpec, Tensor]:
    """finding.json, the inputs' spec, and the clean and adversarial input (2, ...) of the files.

    Raises: DataError if the folder holds no finding, or was altered.
    """
    value: Json = files.read_json(Path(folder) / "finding.json")
    try:
        if value["schema"] != SCHEMA:
            raise DataError(f"{folder} must be of the schema {SCHEMA}. Got {value['schema']!r}")
        spec = InputSpec.from_dict(value["input"])
        rows = torch.cat([_input(Path(folder), kind, value["sha256"], spec) for kind in _KINDS])
        if value["y"] not in spec.class_names:
            raise DataError(f"{folder}: y must be one of {spec.class_names}. Got {value['y']!r}")
    except (KeyError, TypeError, UsageError) as error:
        raise DataError(
            f"{folder}/finding.json is not what a red team writes ({type(error).__name__}: {error})"
        ) from None
    return value, spec, spec.check(rows)


_KINDS = ("clean", "adversarial")


def replay(model: Classifier, rejects: bool, folder: Path) -> Replay:
    """Send both files of a finding again: two queries, written down in its replays.jsonl.

    works: the adversarial one is answered with an accepted wrong class.
    """
    value, spec, rows = read_finding(folder)
    with torch.no_grad():
        logits = model(rows)
    if logits.shape != (2, spec.classes + rejects):
        raise UsageError(
            f"the finding needs a target of {spec.classes} classes. Got answers of shape "
            f"{tuple(logits.shape)} for 2 rows"
        )
    clean, adversarial = (said(each, rejects, spec) for each in logits)
    wrong = adversarial["prediction"] != value["y"] and adversarial["status"] == "ACCEPTED"
    found = Replay(clean, adversarial, wrong)
    with Journal(Path(folder) / "replays.jsonl") as journal:
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        journal.add([{"at": at, **asdict(found)}])
    return found


def said(logits: Tensor, rejects: bool, spec: InputSpec) -> Json:
    """The answer (k,) or (k + 1,) in words; the prediction is None where a rejection hides it."""
    accepted = not rejects or int(logits.argmax()) != len(logits) - 1
    classes = logits[:-1] if rejects else logits
    hidden = not accepted and bool(classes.max() == classes.min())
    return {
        "prediction": None if hidden else spec.class_names[int(classes.argmax())],
        "status": "ACCEPTED" if accepted else "SUSPICIOUS",
    }


def _input(folder: Path, kind: str, sums: dict[str, str], spec: InputSpec) -> Tensor:
    """The PNG where there is one, else the array."""
    name = f"{kind}.png" if f"{kind}.png" in sums else f"{kind}.npy"
    try:
        content = (folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise DataError(f"{folder / name} was altered after the finding was written: refused")
        if name.endswith(".png"):
            return spec.decode(content)
        array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder / name} cannot be read: {error}") from None
    return torch.from_numpy(array)[None]


def _npy(x: Tensor) -> bytes:
    stream = io.BytesIO()
    np.save(stream, x.detach().cpu().numpy(), allow_pickle=False)
    return stream.getvalue()


def _difference(x: Tensor, x_adv: Tensor) -> bytes:
    """The change as a PNG; the largest stands at full strength."""
    return base64.b64decode(difference_uri(x.numpy(), x_adv.numpy()).partition(",")[2])
