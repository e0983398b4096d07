"""BPDA: attack through a transform that has no useful gradient."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.inputs import straight_through
from buckler.protocols import Classifier

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class BPDA:
    """A classifier behind a transform: forward the deployed one, backward its surrogate.

    Backward pass differentiable approximation (Athalye, Carlini and Wagner 2018,
    arXiv:1802.00420), for any attack. Several stages: BPDA(BPDA(model, last), first). Where the
    transform draws at random, put it into `Randomised`.

    Args:
        model: the classifier behind the transform.
        transform: x (n, ...) → what the model sees, as deployed; it may leave torch.
        surrogate: a differentiable stand-in with outputs of the same shape; None is the identity,
            right for a transform whose output is near its input.
    """

    model: Classifier = field(repr=False)
    transform: Transform
    surrogate: Transform | None = None

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hard = self.transform(x.detach())
        if not (x.requires_grad and torch.is_grad_enabled()):
            return self.model(hard)
        soft = x if self.surrogate is None else self.surrogate(x)
        if soft.shape != hard.shape or soft.dtype != hard.dtype:
            who = "the input" if self.surrogate is None else "the surrogate's output"
            raise UsageError(
                "BPDA needs a surrogate whose output has the transform's shape and dtype, "
                f"{tuple(hard.shape)} {hard.dtype}. Got {who} with {tuple(soft.shape)} {soft.dtype}"
            )
        return self.model(straight_through(soft, hard))
