"""Targets whose answers can be worked out on paper, and the plans of small runs on them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from buckler.assess.redteam import Plan, Subject
from buckler.attacks import Square
from buckler.attacks.simba import SimBA
from buckler.inputs import InputSpec
from buckler.threats import LpBall

SPEC = InputSpec((1, 4, 4), ("dark", "bright"), levels=256)
NARROW = 0.01  # no row is that near the border
EPS = 25 / 255  # on the grid of a file


def shades(*levels: float) -> Tensor:
    """(n, 1, 4, 4): one grey a row, as a file holds it."""
    return SPEC.snap(torch.tensor(levels)[:, None, None, None].repeat(1, 1, 4, 4))


X = shades(0.1, 0.47, 0.53, 0.9, 0.48, 0.52)
Y = torch.tensor([0, 0, 1, 1, 0, 1])
NEAR = [1, 2, 4, 5]  # within EPS of the border: the rows that can be won


def by_mean(x: Tensor) -> Tensor:
    """Bright where the mean is over a half."""
    z = 20 * (x.flatten(1).mean(1) - 0.5)
    return torch.stack([-z, z], 1)


def by_median(x: Tensor) -> Tensor:
    """Bright where half of the pixels are: one pixel changes nothing."""
    z = 20 * (x.flatten(1).median(1).values - 0.5)
    return torch.stack([-z, z], 1)


@dataclass
class Asked:
    """A classifier that remembers what it was asked, and does `then` before the n-th call."""

    model: Callable[[Tensor], Tensor] = by_mean
    then: Callable[[int], None] = lambda call: None
    rows: list[Tensor] = field(default_factory=list)
    calls: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.then(self.calls)
        self.rows += list(x.clone())
        return self.model(x)


def subject(model: Callable[[Tensor], Tensor], identity: str = "paper") -> Subject:
    return Subject("model", identity, model, SPEC)


def plan(model: Callable[[Tensor], Tensor], **given: Any) -> Plan:
    facts: dict[str, Any] = {
        "subject": subject(model),
        "threat": LpBall("linf", EPS),
        "suite": (Square(), SimBA(basis="pixel", step_size=1.0)),
        "x": X,
        "y": Y,
        "rows": torch.arange(10, 10 + len(X)),
        "data": "d",
        "queries": 700,
    }
    return Plan(**{**facts, **given})


def report(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return value


def audit(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


def findings(folder: Path) -> dict[str, dict[str, Any]]:
    """finding.json by folder name, without what tells runs apart."""
    found = {}
    for path in sorted((folder / "findings").glob("*/finding.json")):
        value = json.loads(path.read_text())
        value.pop("replay")
        found[path.parent.name] = value
    return found
