"""How unsure the answer is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from buckler.protocols import Features


@dataclass(frozen=True)
class Confidence:
    """Negative log-odds of the top class: log(1 − p) − log p. Its gradient never vanishes."""

    name: str = "confidence"

    def score(self, features: Features) -> Tensor:
        top = features.log_probs[0].topk(1, dim=1)
        rest = features.log_probs[0].scatter(1, top.indices, -float("inf")).logsumexp(1)
        return rest - top.values[:, 0]

    def state(self) -> Mapping[str, np.ndarray]:
        return {}
