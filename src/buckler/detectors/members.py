"""How far the members are from agreeing on the answer."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from buckler.detectors.odds import log_odds
from buckler.errors import UsageError
from buckler.protocols import Features


class MemberDisagreement:
    """Largest drop of the answer's log-odds from the members' mean to any one member, (n,).

    On the input itself, no extra view. A point made for one member moves the others less (Tramèr
    et al. 2018, arXiv:1705.07204); log-odds rather than probabilities, as for the views, so that
    the score never saturates.
    """

    name = "members"

    def __init__(self, temperatures: np.ndarray) -> None:
        """temperatures (m,): what each member's logits are divided by, in the guard's order."""
        self._temperatures = torch.tensor(np.asarray(temperatures), dtype=torch.float64)
        if len(self._temperatures) < 2:
            raise UsageError(
                "the detector 'members' compares members, and this guard has one: leave 'members' "
                "out of the detectors"
            )

    def score(self, features: Features) -> Tensor:
        logits = features.logits[:, 0]
        if len(logits) != len(self._temperatures):
            raise UsageError(
                f"the detector 'members' was fitted for {len(self._temperatures)} members. "
                f"Got logits of {len(logits)}"
            )
        scaled = logits / self._temperatures.to(logits)[:, None, None]
        answer = features.log_probs[:1]
        every = torch.cat([answer, scaled])
        odds = log_odds(every, answer.argmax(2).expand(len(every), -1))
        return (odds[0] - odds[1:]).amax(0)

    def state(self) -> Mapping[str, np.ndarray]:
        return {"temperatures": self._temperatures.numpy()}
