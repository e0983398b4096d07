"""Models whose evaluations deceive, and honest ones that look as if they did: try a battery here.

Every fixture is built around nets that are given. What is expected follows from how it is built,
before anything is measured: FAIL where the white-box attack is misled, so that its figure is too
kind; WARN where it climbs something else than the deployed model, and may still win; else PASS.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from buckler.assess.battery.check import Verdict
from buckler.attacks import BPDA
from buckler.defenses import JPEG, Median
from buckler.inputs import straight_through
from buckler.protocols import Classifier

Half = Literal["tuned", "judged"]


@dataclass(frozen=True)
class Fixture:
    """One model of the zoo.

    expected: of a battery on it; half: whether thresholds were fixed on it or judged on it.
    informed: what someone who knows the trick attacks in its place.
    undefended: the net inside, if the wrapper is meant as a defence.
    """

    name: str
    model: nn.Module
    expected: Verdict
    half: Half
    informed: Classifier
    undefended: nn.Module | None = None


class Scaled(nn.Module):
    """Logits times a factor: large ones saturate the cross entropy, small ones shrink gradients."""

    def __init__(self, net: nn.Module, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x) * self.factor
        return logits


class Rounded(nn.Module):
    """Inputs in [0, 1] rounded to a few levels: no gradient passes."""

    def __init__(self, net: nn.Module, levels: int = 8) -> None:
        super().__init__()
        self.net, self.levels = net, levels

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net((x * (self.levels - 1)).round() / (self.levels - 1))
        return logits


class Shattered(nn.Module):
    """A fast sine on the input: the gradient is large, true, and good for a hair's breadth."""

    def __init__(self, net: nn.Module, size: float = 0.05, pace: float = 150.0) -> None:
        super().__init__()
        self.net, self.size, self.pace = net, size, pace

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x + self.size * torch.sin(self.pace * x))
        return logits


class Noisy(nn.Module):
    """Fresh Gaussian noise on the input at each call, from torch's generator."""

    def __init__(self, net: nn.Module, sigma: float = 0.1) -> None:
        super().__init__()
        self.net, self.sigma = net, sigma

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x + self.sigma * torch.randn_like(x))
        return logits


class Decoy(nn.Module):
    """A fast sine on the logits: gradients turn, yet every step that helps still helps."""

    def __init__(self, net: nn.Module, size: float = 0.05, pace: float = 300.0) -> None:
        super().__init__()
        self.net, self.size, self.pace = net, size, pace

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits + self.size * torch.sin(self.pace * logits)


class Detached(nn.Module):
    """The graph is cut: a forward under no_grad, as wrappers for serving often have."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x.detach())
        return logits


class Softmaxed(nn.Module):
    """Probabilities instead of logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits.softmax(1)


class Coded(nn.Module):
    """A JPEG round trip, whose backward pass is the identity or the codec's own surrogate."""

    def __init__(self, net: nn.Module, quality: int = 75, *, soft: bool = False) -> None:
        super().__init__()
        self.net, self.codec, self.soft = net, JPEG(quality), soft

    def forward(self, x: Tensor) -> Tensor:
        hard = self.codec(x)
        if torch.is_grad_enabled() and x.requires_grad:
            hard = straight_through(self.codec.surrogate(x) if self.soft else x, hard)
        logits: Tensor = self.net(hard)
        return logits


class Dropped(nn.Module):
    """Dropout of input values that stays on when it answers."""

    def __init__(self, net: nn.Module, share: float = 0.1) -> None:
        super().__init__()
        self.net, self.share = net, share

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(nn.functional.dropout(x, self.share, training=True))
        return logits


class Purified(nn.Module):
    """Two steps up its own confidence before it answers; the steps have no gradient themselves."""

    def __init__(self, net: nn.Module, step: float = 0.02) -> None:
        super().__init__()
        self.net, self.step = net, step

    def forward(self, x: Tensor) -> Tensor:
        moved = x
        for _ in range(2):
            with torch.enable_grad():
                z = moved.detach().requires_grad_(True)
                sure = self.net(z).log_softmax(1).amax(1).sum()
                moved = moved + self.step * torch.autograd.grad(sure, z)[0].sign()
        logits: Tensor = self.net(moved)
        return logits


class Halved(nn.Module):
    """Weights and arithmetic in float16, logits given back in float32."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).half()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x.half())
        return logits.float()


class Filtered(nn.Module):
    """A 3×3 median before the net: its gradient is its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.median = net, Median(3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.median(x))
        return logits


def zoo(plain: nn.Module, hardened: nn.Module, other: nn.Module) -> tuple[Fixture, ...]:
    """Both kinds, around an ordinary net and two honestly hardened ones, for inputs in [0, 1]."""
    return (
        Fixture("plain", plain, "PASS", "tuned", plain),
        Fixture("hardened", hardened, "PASS", "tuned", hardened),
        Fixture("temperature 100", Scaled(plain, 0.01), "PASS", "tuned", plain),
        Fixture("logits × 30", Scaled(plain, 30), "FAIL", "tuned", plain),
        Fixture("rounded to 8 levels", Rounded(plain), "FAIL", "tuned", _rounded(plain), plain),
        Fixture("noise 0.1", Noisy(plain), "WARN", "tuned", plain, plain),
        Fixture("decoy gradient", Decoy(plain), "WARN", "tuned", plain),
        Fixture("softmax output", Softmaxed(plain), "WARN", "tuned", plain),
        Fixture("hardened otherwise", other, "PASS", "judged", other),
        Fixture("median filter", Filtered(plain), "PASS", "judged", Filtered(plain), plain),
        Fixture("float16", Halved(hardened), "PASS", "judged", hardened),
        Fixture("shattered by a sine", Shattered(plain), "FAIL", "judged", plain, plain),
        Fixture("detached graph", Detached(plain), "FAIL", "judged", plain),
        Fixture("dropout left on", Dropped(plain), "WARN", "judged", plain, plain),
        Fixture("JPEG, identity backward", Coded(plain), "WARN", "judged", _soft(plain), plain),
        Fixture("optimises in forward", Purified(plain), "WARN", "judged", plain, plain),
    )


def _rounded(net: nn.Module) -> Classifier:
    return BPDA(net, Rounded(nn.Identity()))


def _soft(net: nn.Module) -> Classifier:
    return Coded(net, soft=True)
