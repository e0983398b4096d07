"""Clean and robust accuracy on rows kept apart for choosing."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from buckler.attacks import PGD
from buckler.protocols import Classifier, Threat


@dataclass(frozen=True)
class Validation:
    """Shares of all rows: right, and right under the validating attack."""

    clean: float
    robust: float

    def score(self, chosen_by: Literal["clean", "robust"]) -> float:
        return self.clean if chosen_by == "clean" else (self.clean + self.robust) / 2


@dataclass(frozen=True)
class RobustValidation:
    """model → Validation by a short PGD on x (n, ...), y (n,) of the select split."""

    x: Tensor
    y: Tensor
    threat: Threat
    steps: int = 10
    seed: int = 0

    def __call__(self, model: Classifier) -> Validation:
        attack = PGD(steps=self.steps, step_size=0.25, loss="margin")
        with torch.no_grad():
            right = model(self.x).argmax(1) == self.y
        x, y = self.x[right], self.y[right]
        threat = self.threat.take(right.nonzero()[:, 0])
        with torch.no_grad():
            held = model(attack(model, x, y, threat, seed=self.seed)).argmax(1) == y
        return Validation(float(right.float().mean()), float(held.sum()) / len(right))
