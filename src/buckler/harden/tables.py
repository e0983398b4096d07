"""Adversarial training of nets on tables: the rows to be caught are attacked, the others are not.

An attacker who wants to pass for a good customer leaves good customers alone. Training against both
directions costs accuracy on both and buys nothing.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from buckler import draws
from buckler.attacks import CAPGD
from buckler.attacks.capgd import relaxed
from buckler.attacks.engine import gradient, logits_of
from buckler.harden.objectives import Standard, still
from buckler.harden.validate import Validation
from buckler.losses import cross_entropy
from buckler.protocols import Classifier
from buckler.threats.features import FeatureThreat
from buckler.threats.features.threat import BALLS

_ALIKE = 0.98  # of the answers, and
_BALANCED = 0.9  # of the labels: beyond that a constant answer may be all there is to learn


@dataclass(frozen=True, kw_only=True)
class Evaded(Standard):
    """Cross entropy, with the rows of class `caught` at points the attacker may reach.

    Within a distance the points are climbed to side by side, columns that the budget cannot move a
    step left alone and whole numbers cut off towards the row; rules are not kept there, so that
    training meets a little more than the attacker can do. For money and numbers of changes the
    points are CAPGD's.
    """

    threat: FeatureThreat
    caught: int = 1
    steps: int = 7
    step_size: float = 0.25
    smoothing: float = 0.0

    def craft(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        at = (y == self.caught).nonzero()[:, 0]
        if not len(at):
            return x
        threat = replace(self.threat, budget=torch.as_tensor(self.threat.budget).float() * warm)
        out = x.clone()
        with still(model):
            if threat.unit in BALLS:
                out[at] = climbed(
                    model, x[at], y[at], threat, self.steps, self.step_size, seed, rows[at]
                )
            else:
                attack = CAPGD(steps=self.steps, restarts=1)
                out[at] = attack(model, x[at], y[at], threat, seed=seed, rows=rows[at])
        return out


def climbed(
    model: Classifier, x: Tensor, y: Tensor, threat: FeatureThreat, steps: int, step_size: float,
    seed: int, rows: Tensor,
) -> Tensor:  # fmt: skip
    """Gradient ascent from a random point of the ball around x; whole numbers are cut off towards
    x, where the ball is narrower."""
    budget = float(torch.as_tensor(threat.budget).max())
    noise = draws.normal(seed, rows.cpu(), 0, tuple(x.shape[1:])).to(x)
    length = torch.linalg.vector_norm(noise, dim=1, keepdim=True)
    ranges = threat.ranges(x)
    z = relaxed(threat, x, x + budget * ranges * noise / length)
    for _ in range(steps):
        grad, _ = gradient(model, z, y, threat.goal, cross_entropy)
        z = relaxed(threat, x, z + step_size * budget * threat.steepest(grad))
    whole = torch.tensor(
        [each.kind == "integer" for each in threat.spec.features for _ in range(each.wide)]
    ).to(x.device)
    moved = z - x
    return x + torch.where(whole, (moved + 1e-4 * moved.sign()).trunc(), moved)


@dataclass(frozen=True)
class EvadedValidation:
    """model → Validation on x (n, width), y (n,) of the select split: robust is the share of all
    rows that stay right when those of class `caught` are attacked."""

    x: Tensor
    y: Tensor
    threat: FeatureThreat
    caught: int = 1
    steps: int = 20
    seed: int = 0

    def __call__(self, model: Classifier) -> Validation:
        answers = logits_of(model, self.x).argmax(1)
        right = answers == self.y
        held, at = right.clone(), (right & (self.y == self.caught)).nonzero()[:, 0]
        if len(at):
            x, y = self.x[at], self.y[at]
            if self.threat.unit in BALLS:
                x_adv = climbed(model, x, y, self.threat, self.steps, 0.1, self.seed, at)
            else:
                x_adv = CAPGD(self.steps, 1)(model, x, y, self.threat, seed=self.seed, rows=at)
            held[at] = logits_of(model, x_adv).argmax(1) == y
        share = [float(each.bincount().max()) / len(each) for each in (answers, self.y)]
        constant = share[0] > _ALIKE and share[1] < _BALANCED
        return Validation(float(right.float().mean()), float(held.float().mean()), None, constant)
