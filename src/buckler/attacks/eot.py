"""Expectation over transformation: attack the mean of many draws of a random model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.protocols import Classifier


@dataclass(frozen=True)
class EOT:
    """A classifier whose logits are the mean log-probability over draws of a random one.

    (Athalye et al. 2018, arXiv:1707.07397.) Success on the mean is only a candidate: who counts
    asks the deployed model, with its own draws.

    Args:
        draw: the classifier, once for each draw, its randomness fixed to that draw.
    """

    draw: tuple[Classifier, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return torch.stack([model(x) for model in self.draw]).mean(0)
