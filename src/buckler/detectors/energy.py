"""How little evidence the members see for any class."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.protocols import Features


class Energy:
    """Free energy of the input, (n,): the members' weighted mean of −logsumexp(logits / T).

    (Liu, Wang, Owens, Li 2020, arXiv:2010.03759.) Each member's logits are divided by its own
    temperature first, so that a loud member does not drown the others. The gradient is a weighted
    mean of the logits' gradients with weights that sum to 1: it does not vanish.
    """

    name = "energy"

    def __init__(self, weights: np.ndarray, temperatures: np.ndarray) -> None:
        """weights, temperatures (m,): one a member, in the guard's order."""
        self._weights = torch.tensor(np.asarray(weights), dtype=torch.float64)
        self._temperatures = torch.tensor(np.asarray(temperatures), dtype=torch.float64)

    def score(self, features: Features) -> Tensor:
        logits = features.logits[:, 0]
        if len(logits) != len(self._weights):
            raise UsageError(
                f"the detector 'energy' was fitted for {len(self._weights)} members. "
                f"Got logits of {len(logits)}"
            )
        energy = -(logits / self._temperatures.to(logits)[:, None, None]).logsumexp(2)
        return (self._weights.to(logits)[:, None] * energy).sum(0)

    def state(self) -> Mapping[str, np.ndarray]:
        return {"weights": self._weights.numpy(), "temperatures": self._temperatures.numpy()}
