"""Clean and robust accuracy on rows kept apart for choosing."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks import FGSM, PGD
from buckler.attacks.engine import logits_of
from buckler.protocols import Classifier, Threat

_ALIKE = 0.98  # of the answers, and
_BALANCED = 0.9  # of the labels: beyond that a constant answer may be all there is to learn


@dataclass(frozen=True)
class Validation:
    """Shares of all rows: right, and right under the validating attack.

    one_step: right after a single step of the attack; far above `robust` where one-step training
        has collapsed. None where it was not measured.
    constant: whether nearly every row gets the same answer, though the labels differ.
    """

    clean: float
    robust: float
    one_step: float | None = None
    constant: bool = False

    def score(self, chosen_by: Literal["clean", "robust"]) -> float:
        return self.clean if chosen_by == "clean" else (self.clean + self.robust) / 2


@dataclass(frozen=True)
class RobustValidation:
    """model → Validation by a short PGD on x (n, ...), y (n,) of the select split.

    Args:
        most: rows that are attacked, drawn at random by seed where there are more.
        one_step: measure one step too.
    """

    x: Tensor
    y: Tensor
    threat: Threat
    steps: int = 10
    seed: int = 0
    most: int = 1000
    one_step: bool = False

    def __call__(self, model: Classifier) -> Validation:
        n = len(self.x)
        rows = draws.permutation(self.seed, 0, n)[: self.most] if n > self.most else torch.arange(n)
        x, y = self.x[rows], self.y[rows]
        answers = logits_of(model, x).argmax(1)
        right = answers == y
        share = [float(a.bincount().max()) / len(a) for a in (answers, y)]
        held = self._held(model, x, y, rows, right, PGD(self.steps, 0.25, loss="margin"))
        one = self._held(model, x, y, rows, right, FGSM()) if self.one_step else None
        constant = share[0] > _ALIKE and share[1] < _BALANCED
        return Validation(float(right.float().mean()), held, one, constant)

    def _held(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        rows: Tensor,
        right: Tensor,
        attack: PGD | FGSM,
    ) -> float:
        """The share of all rows that are right, and stay so under the attack."""
        at = right.nonzero()[:, 0]
        threat = self.threat.take(rows[at])
        x_adv = attack(model, x[at], y[at], threat, seed=self.seed, rows=rows[at])
        return float((logits_of(model, x_adv).argmax(1) == y[at]).sum()) / len(x)
