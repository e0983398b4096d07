"""How unsure the answer is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from buckler.detectors.odds import log_odds
from buckler.protocols import Features


@dataclass(frozen=True)
class Confidence:
    """Negative log-odds of the top class: log(1 − p) − log p. Its gradient never vanishes."""

    name: str = "confidence"

    def score(self, features: Features) -> Tensor:
        log_probs = features.log_probs[0]
        return -log_odds(log_probs, log_probs.argmax(1))

    def state(self) -> Mapping[str, np.ndarray]:
        return {}
