"""Training for a proof: the loss of the worst logits that interval bounds leave open."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from buckler import draws
from buckler.certify.boxes import Box
from buckler.certify.interval import Interval, around
from buckler.errors import UsageError
from buckler.harden.objectives import climbed
from buckler.losses import cross_entropy
from buckler.threats import LpBall

_TOLERANCE = 0.5  # ratios of the regularisers below this cost something
_SHALLOW = 4  # weighted layers
_ROWS = 32  # of a batch, for the regularisers: means over a layer's units need no more
_SCALED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Certified:
    """Cross entropy of the clean logits, weighed k, and of the worst-case ones, weighed 1 − k
    (Gowal et al. 2018, arXiv:1810.12715). With `steps`, points attacked by PGD stand in place of
    the clean ones: a small weight of the bounds then makes a net that holds against attacks better,
    though less of it is proved (MTL-IBP, De Palma et al. 2024, arXiv:2305.13991).

    Over the warm-up eps rises from 0 to `widen` × the threat's and k falls from 1 to `kappa`: at
    full eps from the start the bounds of a fresh net say nothing, and it stays at chance. While
    they rise, `balance` × (1 − warm) weighs two regularisers that keep the bounds narrow and the
    ReLUs on both sides of their kink (Shi et al. 2021, arXiv:2103.17268).

    Args:
        threat: an L∞ ball.
        kappa: weight of the loss at single points once warm; 1 would train for no proof.
        widen: eps in training / eps of the threat; a little over 1 often certifies more.
        balance: weight of the regularisers at the start; 0 leaves them out.
        steps, step_size: of the attack; a fraction of eps. 0 steps: none.
    """

    threat: LpBall
    kappa: float = 0.25
    widen: float = 1.0
    balance: float = 0.5
    steps: int = 0
    step_size: float = 0.25

    def __post_init__(self) -> None:
        if self.threat.norm != "linf":
            raise UsageError(f"certified training needs an L∞ threat. Got {self.threat.norm}")
        if not (0 <= self.kappa < 1 and self.widen > 0 and self.balance >= 0):
            raise UsageError(
                "certified training needs 0 <= kappa < 1, widen > 0 and balance >= 0. "
                f"Got {self.kappa}, {self.widen}, {self.balance}"
            )

    def craft(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        if not self.steps:
            return x
        return climbed(self, model, x, y, seed, rows, warm, cross_entropy)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, warm: float) -> Tensor:
        eps = self.threat.eps * (self.widen * warm)
        near_weight = 1 - (1 - self.kappa) * warm
        low, high = around(x, eps, self.threat.box)
        before_relu: list[Box] = []
        near = functional.cross_entropy(model(x_adv), y)  # first: it moves batch norm's statistics
        differences = _interval(model).differences(low, high, y, before_relu)
        loss = near_weight * near + (1 - near_weight) * functional.cross_entropy(differences, y)
        if self.balance and warm < 1 and before_relu:
            few = [Box(box.low[:_ROWS], box.high[:_ROWS]) for box in before_relu]
            cost = _looseness(low, high, few) + _imbalance(few)
            loss = loss + self.balance * (1 - warm) * cost
        return loss


@lru_cache(maxsize=4)  # as many as train side by side
def _interval(model: nn.Module) -> Interval:
    """Traced at the first step of a run: in a small net tracing takes as long as the step."""
    return Interval(model)


def _looseness(low: Tensor, high: Tensor, before_relu: list[Box]) -> Tensor:
    """How far the mean width of the bounds outgrows the input's, mean over ReLUs."""
    width = (high - low).mean()
    ratios = [width / (box.high - box.low).mean().clamp_min(1e-12) for box in before_relu]
    return _below(torch.stack(ratios))


def _imbalance(before_relu: list[Box]) -> Tensor:
    """How unequal the surely active units and the surely inactive ones are, in the mean and in the
    variance that their middles contribute; mean over ReLUs.

    A layer with none of either has no ratio, and costs nothing.
    """
    ratios = []
    for box in before_relu:
        middle = (box.low + box.high) / 2
        active, inactive = box.low > 0, box.high < 0
        spread = (middle - middle.mean()) ** 2
        for value in (middle.abs(), spread):
            on, off = (value * active).sum(), (value * inactive).sum()
            ratio = torch.minimum(on, off) / torch.maximum(on, off).clamp_min(1e-12)
            ratios.append(torch.where((on > 0) & (off > 0), ratio, 1.0))
    return 2 * _below(torch.stack(ratios))  # the sum over mean and variance, mean over ReLUs


def _below(ratios: Tensor) -> Tensor:
    return functional.relu(_TOLERANCE - ratios).mean() / _TOLERANCE


def narrow_start(model: nn.Module, seed: int) -> None:
    """`shi_initialise` for deep nets without norms, whose bounds are too wide to start from; others
    stay as they are: a shallow net trains better from torch's own start (measured)."""
    layers = [part for part in model.modules() if isinstance(part, _SCALED)]
    norms = any("Norm" in type(part).__name__ for part in model.modules())
    if len(layers) > _SHALLOW and not norms:
        shi_initialise(model, seed)


def shi_initialise(model: nn.Module, seed: int) -> None:
    """Fresh weights, in place: normal with standard deviation √(2π) / fan-in, biases 0.

    Interval bounds then keep their width through a layer with ReLU; under the usual √(2 / fan-in)
    they grow with √(fan-in), layer by layer (Shi et al. 2021, arXiv:2103.17268). Linear and
    convolutional layers only; draws are keyed by (seed, layer, unit).
    """
    layers = [part for part in model.modules() if isinstance(part, _SCALED)]
    with torch.no_grad():
        for index, layer in enumerate(layers):
            weight = layer.weight
            units = torch.arange(len(weight), device=weight.device)
            key = draws.derive(seed, "initial")
            noise = draws.normal(key, units, index, tuple(weight.shape[1:])).to(weight)
            weight.copy_(noise * math.sqrt(2 * math.pi) / weight[0].numel())
            if layer.bias is not None:
                layer.bias.zero_()
