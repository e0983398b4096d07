"""How close the answer is to another class."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from buckler.protocols import Features


@dataclass(frozen=True)
class Margin:
    """Log-probability of the second class less that of the top class, (n,), at most 0.

    Where Confidence sums over all other classes, this looks at the nearest one alone. In logs it
    never saturates, and its gradient never vanishes.
    """

    name: str = "margin"

    def score(self, features: Features) -> Tensor:
        first, second = features.log_probs[0].topk(2, dim=1).values.unbind(1)
        return second - first

    def state(self) -> Mapping[str, np.ndarray]:
        return {}
