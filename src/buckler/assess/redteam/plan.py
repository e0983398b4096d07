"""What a run is about, settled before the first query; and the folder it lives in."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from buckler import files
from buckler.assess.redteam.ids import family
from buckler.assess.redteam.subject import Subject
from buckler.attacks.suites import Suite
from buckler.attacks.under import threat_of
from buckler.errors import DataError, UsageError
from buckler.guard.bundle import versions
from buckler.protocols import Attack, Threat
from buckler.threats import Goal

Json = dict[str, Any]
OVER = ("done", "budget spent")  # how a run ends for good; any other is gone on with


@dataclass(frozen=True)
class Plan:
    """Who attacks what, with which rows and how many queries.

    x (n, ...), y (n,), rows (n,): inputs, truths, and their ids in the test split.
    data: digest of the data set: the same row ids mean the same inputs.
    queries: in all, everything included. per_row: of one attack on one row; 0: an equal share.
    """

    subject: Subject
    threat: Threat
    suite: Suite
    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    rows: Tensor = field(repr=False)
    data: str
    suite_name: str = "blackbox"
    queries: int = 20_000
    per_row: int = 0
    rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not len(self.x):
            raise DataError("there is no data to attack with: at least one row is needed. Got 0")
        spec = self.subject.spec
        spec.check_labels(self.y, len(spec.check(self.x)))
        names = [attack.name for attack in self.suite]
        twice = {name for name in names if names.count(name) > 1}
        if twice or not names:
            raise UsageError(
                f"a suite needs attacks, each with a name of its own. Got {', '.join(names)}"
            )
        if self.share < 1:
            raise UsageError(
                f"{self.queries} queries are too few for {len(self.x)} rows and {len(names)} "
                f"attacks: give at least {len(self.x) * (1 + 2 * len(names))}, or fewer rows"
            )

    @property
    def share(self) -> int:
        """Queries of one attack on one row; one more is kept to ask about its file."""
        rest = (self.queries - len(self.x)) // (len(self.x) * len(self.suite)) - 1
        return self.per_row or rest

    @property
    def attacks(self) -> Suite:
        """The suite, told how many queries it has."""
        return tuple(with_queries(attack, self.share) for attack in self.suite)

    @property
    def aim(self) -> Threat:
        """The threat, with what counts as a win on this target."""
        return self.threat.with_goal(Goal("guarded") if self.subject.rejects else Goal())

    def aim_of(self, attack: Attack, place: int) -> Threat:
        """The aim of this attack on the row at `place`; some attacks bring their own threat."""
        own = threat_of(attack, self.aim).with_goal(self.aim.goal)
        return own.take(torch.tensor([place]))

    def settings(self) -> Json:
        """What two runs must share to be one."""
        return {
            "source": self.subject.source,
            "identity": self.subject.identity,
            "rejects": self.subject.rejects,
            "threat": self.aim.to_dict(),
            "suite": self.suite_name,
            "attacks": [
                {"name": a.name, "parameters": repr(a), "ids": family(a).to_dict()}
                for a in self.attacks
            ],
            "rows": self.rows.tolist(),
            "data": self.data,
            "queries": self.queries,
            "per_row": self.share,
            "rate": self.rate,
            "seed": self.seed,
            "versions": versions(),
        }


def with_queries(attack: Attack, queries: int) -> Attack:
    """The attack with its own budget, where it has a field for it."""
    if is_dataclass(attack) and "queries" in (each.name for each in fields(attack)):
        found: Attack = replace(attack, queries=queries)
        return found
    return attack


def run_folder(out: Path, settings: Json, today: str = "") -> Path:
    """The folder of the unfinished run with these settings, else of a new one.

    runs/DATE-HASH, the hash being that of the settings; the date is UTC's.
    """
    text = json.dumps(settings, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    for folder in runs(out):
        if folder.name[11:].startswith(digest) and not is_over(folder):
            return folder
    name = f"{today or datetime.now(UTC).date().isoformat()}-{digest}"
    folder, count = Path(out) / "runs" / name, 1
    while folder.exists():
        count += 1
        folder = folder.with_name(f"{name}-{count}")
    files.write_json(folder / "run.json", {"schema": "buckler.redteam-run/1", **settings})
    return folder


def runs(out: Path) -> Sequence[Path]:
    """The folders of runs, newest first."""
    found = [path.parent for path in (Path(out) / "runs").glob("*/run.json")]
    return sorted(found, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)


def is_over(folder: Path) -> bool:
    path = folder / "report.json"
    return path.exists() and files.read_json(path).get("ended") in OVER
