"""Hue, saturation, brightness, contrast and gamma, by gradient on these few numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.engine import ActiveSet, gradient, logits_of
from buckler.attacks.parameters import pull_back, try_all
from buckler.errors import UsageError
from buckler.losses import LOSSES
from buckler.protocols import Classifier, Threat
from buckler.threats.colour import Colour


@dataclass(frozen=True)
class ColourShift:
    """The worst of some settings, then gradient ascent on the parameters from the best of them.

    (Few-parameter colour attacks: Hosseini and Poovendran 2018, arXiv:1804.00499; gradient on
    them: Laidlaw and Feizi 2019, arXiv:1906.00001.) Sign steps on the parameters, not on pixels,
    so that every point is a setting; they shrink linearly to a tenth.

    Args:
        starts: random settings tried first, after both ends of every parameter.
        steps: gradient steps from each start.
        step_size: fraction of a parameter's range to one side.
        restarts: climbs; the r-th begins at the r-th best setting.
    """

    starts: int = 6
    steps: int = 20
    step_size: float = 0.2
    restarts: int = 1
    loss: str = "margin"
    name: str = "Colour"

    def __post_init__(self) -> None:
        if min(self.starts, self.steps) < 0 or self.restarts < 1 or not self.step_size > 0:
            raise UsageError(
                "ColourShift needs starts >= 0, steps >= 0, restarts >= 1 and step_size > 0. Got "
                f"starts={self.starts}, steps={self.steps}, restarts={self.restarts}, "
                f"step_size={self.step_size}"
            )
        if self.loss not in LOSSES:
            raise UsageError(f"loss must be one of {', '.join(LOSSES)}. Got {self.loss!r}")

    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> Tensor:
        if not isinstance(threat, Colour):
            raise UsageError(f"ColourShift needs a Colour threat. Got {threat}")
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        active.judge(x, logits_of(model, x))
        settings = self._settings(active, threat, seed)
        left, scores = try_all(model, active, threat.transform, settings)
        settings, order = settings[left], scores.argsort(stable=True, dim=1, descending=True)
        for restart in range(self.restarts):
            if not len(active) or restart >= settings.shape[1]:
                break
            at = torch.arange(len(settings), device=x.device)
            left = self._climb(model, active, threat, settings[at, order[:, restart]])
            settings, order = settings[left], order[left]
        return active.best

    def _climb(
        self, model: Classifier, active: ActiveSet, threat: Colour, params: Tensor
    ) -> Tensor:
        """Judge every step of one ascent; the rows still to be won, as indices."""
        loss, left = LOSSES[self.loss], torch.arange(len(params), device=params.device)
        for step in range(self.steps):
            x, point = active.x, threat.transform(active.x, params)
            grad, logits = gradient(model, point, active.y, active.threat.goal, loss)
            grad = pull_back(lambda p, x=x: threat.transform(x, p), params, grad)  # type: ignore[misc]
            stay = active.judge(point, logits)
            left, params, grad = left[stay], params[stay], grad[stay]
            if not len(active):
                return left
            size = self.step_size * (1 - 0.9 * step / self.steps)
            params = (params + size * grad.sign()).clamp(-1, 1)
        point = threat.transform(active.x, params)
        return left[active.judge(point, logits_of(model, point))]

    def _settings(self, active: ActiveSet, threat: Colour, seed: int) -> Tensor:
        """(n, m, 5): the identity, both ends of every free parameter, then random settings."""
        free = torch.tensor(threat.free, device=active.x.device)
        ends = torch.diag(free.to(active.x.dtype))[free]
        fixed = torch.cat([torch.zeros_like(ends[:1]), ends, -ends])
        u = draws.uniform(seed, active.rows, 0, (self.starts, len(free))).to(active.x)
        return torch.cat([fixed.expand(len(active), -1, -1), (2 * u - 1) * free], 1)
