"""Log-odds: how sure an answer is, in a measure that never saturates."""

import torch
from torch import Tensor


def log_odds(logits: Tensor, answer: Tensor) -> Tensor:
    """log p − log(1 − p) of the class `answer` (...) under logits or log-probabilities (..., k)."""
    index = answer.unsqueeze(-1)
    rest = logits.scatter(-1, index, -torch.inf).logsumexp(-1)
    odds: Tensor = logits.gather(-1, index)[..., 0] - rest
    return odds
