"""How far the answer moves when the input is squeezed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from buckler.detectors.odds import log_odds
from buckler.errors import UsageError
from buckler.protocols import Features


@dataclass(frozen=True)
class ViewDisagreement:
    """Largest drop of the top class's log-odds from the input to any other view.

    Feature squeezing (Xu, Evans, Qi 2018) compares probabilities; log-odds never saturate, so that
    an attacker who knows the score has a gradient, and we are not fooled by one who has none.
    """

    name: str = "views"

    def score(self, features: Features) -> Tensor:
        if len(features.log_probs) < 2:
            raise UsageError("the detector 'views' needs a guard with at least one extra view")
        top = features.log_probs[0].argmax(1)
        odds = log_odds(features.log_probs, top.expand(len(features.log_probs), -1))
        return (odds[0] - odds[1:]).amax(0)

    def state(self) -> Mapping[str, np.ndarray]:
        return {}
