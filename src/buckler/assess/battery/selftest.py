"""Check 24: the battery's attack, here and now, on broken models whose answer is known."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from buckler import draws
from buckler.assess.battery.check import CONVERGED, Check, absent
from buckler.assess.battery.scene import Scene, climb
from buckler.attacks import BPDA, Randomised
from buckler.protocols import Classifier
from buckler.threats import LpBall

_ROWS, _DRAWS = 16, 20
_NEAR, _FAR = 0.6, 1.5  # of eps: borders that can be reached, and that cannot
_DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}


def check(scene: Scene) -> Check:
    """A linear model with borders at known distances, behind logits × 30, rounding, a sine and
    noise, each attacked as it must be: every near border is crossed and no far one (Carlini et al.
    2019: try the attack on models that are broken on purpose)."""
    name, limit = "the attack's own test", "a near border missed or a far one crossed warns"
    if not scene.gradients:
        return absent(24, name, CONVERGED, "no gradient arrives: the attack is not used")
    low, high = scene.threat.box
    size = scene.x[0].numel()
    eps = float(torch.as_tensor(scene.threat.eps).float().mean())
    eps = min(eps, 0.2 * (high - low) * (size**0.5 if scene.threat.norm == "l2" else 1))
    each = eps / {"linf": 1.0, "l2": size**0.5, "l1": float(size)}[scene.threat.norm]
    ids = torch.arange(_ROWS)
    w = draws.uniform(draws.derive(scene.seed, "line"), ids[:1], 0, (size,))[0] - 0.5
    w = w.sign() * (0.5 + w.abs())
    middle = torch.full((size,), (low + high) / 2)
    far = torch.where(ids % 2 == 0, _NEAR, _FAR)
    reach = eps * float(torch.linalg.vector_norm(w, _DUAL[scene.threat.norm]))
    x = (middle - far[:, None] * reach * w / w.square().sum()).reshape(_ROWS, *scene.x.shape[1:])
    threat = LpBall(scene.threat.norm, eps, scene.threat.box)
    wrong = []
    for kind, model in _broken(_Line(w, middle), each, scene.seed).items():
        y = torch.zeros(_ROWS, dtype=torch.int64)
        x_adv = climb(scene.effort.steps)(model, x, y, threat, seed=scene.seed)
        with torch.no_grad():
            won = model(x_adv).argmax(1) == 1
        if not torch.equal(won, far < 1):
            wrong.append(kind)
    said = (
        f"misses on: {', '.join(wrong)}" if wrong else "each border in reach was crossed, no other"
    )
    value = len(wrong) / 4
    return Check(24, name, CONVERGED, value, limit, "warn" if wrong else "pass", said)


@dataclass(frozen=True)
class _Line:
    """Class 1 beyond the plane through `middle` with the normal w."""

    w: Tensor
    middle: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        score = (x.flatten(1) - self.middle) @ self.w
        return torch.stack([torch.zeros_like(score), score], 1)


@dataclass
class _Noisy:
    """The line under draws of noise that come round, and whose mean over a round is zero."""

    line: _Line
    noise: Tensor
    asked: int = field(default=0)

    def __call__(self, x: Tensor) -> Tensor:
        self.asked = (self.asked + 1) % len(self.noise)
        return self.line(x.flatten(1) + self.noise[self.asked])


def _broken(line: _Line, each: float, seed: int) -> dict[str, Classifier]:
    """Rounding and the sine move each value by at most a quarter of what the attack may: less than
    what parts near borders from far ones."""
    noise = draws.normal(draws.derive(seed, "noise"), torch.arange(_DRAWS), 0, tuple(line.w.shape))
    noise = each * (noise - noise.mean(0))
    return {
        "logits × 30": lambda x: 30 * line(x),
        "rounding": BPDA(line, lambda x: (x / (each / 4)).round() * (each / 4)),
        "sine": BPDA(line, lambda x: x + each / 4 * torch.sin(150 * x)),
        "noise": Randomised(_Noisy(line, noise), _DRAWS),
    }
