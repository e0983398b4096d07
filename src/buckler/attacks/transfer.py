"""Transfer: climb on stand-ins of the model, and show it only the end."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from buckler import draws
from buckler.attacks.engine import ActiveSet, gradient, logits_of
from buckler.attacks.eot import EOT
from buckler.attacks.pgd import ascend
from buckler.errors import UsageError
from buckler.losses import LOSSES
from buckler.protocols import Classifier, Threat
from buckler.threats import Goal, LpBall
from buckler.threats.lp import per_row

Ensemble = Literal["logits", "losses"]


@dataclass(frozen=True)
class Transfer:
    """Momentum climbing on surrogates, blurred and varied so that what it finds holds elsewhere.

    MI-FGSM (Dong et al. 2018, arXiv:1710.06081), DI (Xie et al. 2019, arXiv:1803.06978), TI (Dong
    et al. 2019, arXiv:1904.02884) and SI (Lin et al. 2020, arXiv:1908.06281), each a field of its
    own. Deviations: every row draws its own resizing and padding; input sizes stay, so that DI
    shrinks the image and pads it with the low end of the box; Lin's Nesterov step is left out.

    The target is asked only with the last point: one query a row. That point comes back, be it
    worse than x to the target: nobody asked. With `ask_every`, x and every so many-th point are
    asked too, rows that are won leave, and the best point that was asked comes back.

    Args:
        surrogates: what is climbed on, each differentiable.
        steps: gradient steps.
        step_size: fraction of eps.
        momentum: share of the gradients before that is kept, each at L1 norm 1; 0 for none.
        diversity: chance, each step, that a row is seen resized and padded; 0 for vectors.
        resize: the smallest size it is seen at, a fraction of its own.
        kernel: width in pixels of the Gaussian that smooths the gradient, odd; 0 for vectors.
        copies: how many copies, each half as bright as the last, share a gradient.
        ensemble: whether the surrogates' logits are averaged, or their losses.
        loss: a name in buckler.losses.LOSSES.
        ask_every: steps between queries, 0 for the end alone.
        goal: what to climb to on the surrogates where that is not the threat's own: Goal() for
            plain classifiers that stand in for a guard's k + 1 view.
    """

    surrogates: tuple[Classifier, ...] = field(repr=False)
    steps: int = 10
    step_size: float = 0.1
    momentum: float = 1.0
    diversity: float = 0.5
    resize: float = 0.9
    kernel: int = 7
    copies: int = 5
    ensemble: Ensemble = "logits"
    loss: str = "ce"
    ask_every: int = 0
    goal: Goal | None = None
    name: str = "Transfer"

    def __post_init__(self) -> None:
        if not self.surrogates:
            raise UsageError("Transfer needs at least one surrogate to climb on. Got none")
        if self.steps < 1 or not self.step_size > 0 or self.copies < 1 or self.ask_every < 0:
            raise UsageError(
                "Transfer needs steps >= 1, step_size > 0 (a fraction of eps), copies >= 1 and "
                f"ask_every >= 0. Got steps={self.steps}, step_size={self.step_size}, "
                f"copies={self.copies}, ask_every={self.ask_every}"
            )
        if not (self.momentum >= 0 and 0 <= self.diversity <= 1 and 0 < self.resize <= 1):
            raise UsageError(
                "Transfer needs momentum >= 0, diversity in [0, 1] and resize in (0, 1]. Got "
                f"momentum={self.momentum}, diversity={self.diversity}, resize={self.resize}"
            )
        if self.kernel < 0 or (self.kernel and self.kernel % 2 == 0):
            raise UsageError(f"kernel must be odd, or 0 for none. Got {self.kernel}")
        if self.ensemble not in get_args(Ensemble):
            raise UsageError(
                f"ensemble must be one of {', '.join(get_args(Ensemble))}. Got {self.ensemble!r}"
            )
        if self.loss not in LOSSES:
            raise UsageError(f"loss must be one of {', '.join(LOSSES)}. Got {self.loss!r}")
        if self.goal is not None and isinstance(self.goal.target, Tensor):
            raise UsageError(
                "the goal on the surrogates is one for all rows: targets for each row belong to "
                f"the threat's goal. Got {self.goal}"
            )

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
        if not isinstance(threat, LpBall):
            raise UsageError(f"Transfer needs an L-infinity, L2 or L1 ball. Got {threat}")
        if (self.diversity or self.kernel) and x.ndim not in (3, 4):
            raise UsageError(
                "diversity and kernel are for images (n, c, h, w) or (n, h, w). Got inputs of "
                f"shape {tuple(x.shape[1:])}: set diversity=0 and kernel=0"
            )
        active = ActiveSet(x, y, threat, rows)
        x_adv, velocity = active.x, torch.zeros_like(active.x)
        for step in range(self.steps):
            if self.ask_every and len(active) and step % self.ask_every == 0:
                stay = active.judge(x_adv, logits_of(model, x_adv))
                x_adv, velocity = x_adv[stay], velocity[stay]
            if not len(active):
                return active.best
            grad = self._gradient(active, x_adv, seed, step)
            mean = grad.flatten(1).abs().mean(1).clamp_min(torch.finfo(grad.dtype).tiny)
            velocity = self.momentum * velocity + grad / per_row(mean, grad)
            x_adv = ascend(active.threat, active.x, x_adv, velocity, self.step_size)
        active.judge(x_adv, logits_of(model, x_adv))
        return active.best

    def _gradient(self, active: ActiveSet, x_adv: Tensor, seed: int, step: int) -> Tensor:
        """The surrogates' gradient, mean over copies and smoothed. Copies are rows."""
        every = torch.arange(len(x_adv), device=x_adv.device).repeat(self.copies)
        goal = (self.goal or active.threat.goal).take(every)
        y, loss = active.y[every], LOSSES[self.loss]
        models = (EOT(self.surrogates),) if self.ensemble == "logits" else self.surrogates
        with torch.enable_grad():
            z = x_adv.detach().requires_grad_(True)
            seen = self._seen(z, active, seed, step)
            grads = [gradient(model, seen, y, goal, loss)[0] for model in models]
            grad = torch.autograd.grad(seen, z, torch.stack(grads).mean(0))[0]
        return smooth(grad, self.kernel) if self.kernel else grad

    def _seen(self, z: Tensor, active: ActiveSet, seed: int, step: int) -> Tensor:
        """(copies · n, ...) each row at every brightness, some of them resized."""
        low = active.threat.box[0]
        seen = torch.cat([low + (z - low) / 2**copy for copy in range(self.copies)])
        if not self.diversity:
            return seen
        u = draws.uniform(seed, active.rows, step, (self.copies, 4)).transpose(0, 1).flatten(0, 1)
        images = seen if seen.ndim == 4 else seen[:, None]
        moved = low + shrink(images - low, u[:, :3], self.resize)
        return torch.where(
            per_row(u[:, 3] < self.diversity, seen).bool(), moved.view_as(seen), seen
        )


def shrink(images: Tensor, u: Tensor, smallest: float) -> Tensor:
    """Each image (n, c, h, w) resized (bilinear) to its own size, and put somewhere on zeros.

    Args:
        u: (n, 3) in [0, 1): size, from the fraction `smallest` to a pixel less than the whole;
            place down; place across.
    """
    height, width = images.shape[-2:]
    u = u.to(images)
    scales, offsets = [], []
    for full, at in ((width, u[:, 2]), (height, u[:, 1])):
        least = max(1, int(smallest * full))
        choices = max(1, full - least)
        size = least + (u[:, 0] * choices).floor().clamp_max(choices - 1)
        before = torch.minimum((at * (full - size + 1)).floor(), full - size)
        scales.append(full / size)
        offsets.append((full - 2 * before) / size - 1)
    zero = torch.zeros_like(scales[0])
    across = torch.stack([scales[0], zero, offsets[0]], 1)
    down = torch.stack([zero, scales[1], offsets[1]], 1)
    matrix = torch.stack([across, down], 1)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def smooth(grad: Tensor, kernel: int) -> Tensor:
    """The gradient (n, c, h, w) or (n, h, w) under a Gaussian of `kernel` pixels, 3 sigma wide."""
    at = torch.linspace(-3, 3, kernel, dtype=grad.dtype, device=grad.device)
    line = torch.exp(-(at**2) / 2) if kernel > 1 else torch.ones_like(at)
    line = line / line.sum()
    planes = grad.reshape(-1, 1, *grad.shape[-2:])
    planes = functional.conv2d(planes, line[None, None, :, None], padding=(kernel // 2, 0))
    planes = functional.conv2d(planes, line[None, None, None, :], padding=(0, kernel // 2))
    return planes.reshape(grad.shape)
