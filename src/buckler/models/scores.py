"""What a foreign model answers, as logits: probabilities, log-odds or bare decisions."""

from typing import Literal

import numpy as np

Scores = Literal["logits", "probabilities", "confidence", "decisions"]
"""What came back. confidence: of the top class alone; decisions: the class and no more."""

FLOOR = 1e-12  # forests give exact zeros; their log must stay a number


def log_probabilities(probs: np.ndarray) -> np.ndarray:
    """(n, k) logits whose softmax is `probs` (n, k), clipped at 1e-12."""
    return np.log(np.clip(np.asarray(probs, dtype=np.float64), FLOOR, None))


def one_hot_logits(labels: np.ndarray, classes: int) -> np.ndarray:
    """(n, classes) logits of bare decisions `labels` (n,): as sure as can be, whatever the row."""
    return log_probabilities(np.eye(classes)[labels])


def two_columns(log_odds: np.ndarray) -> np.ndarray:
    """(n, 2) logits of a binary model's log-odds (n,) of class 1."""
    column = np.asarray(log_odds, dtype=np.float64).reshape(-1)
    return np.stack([np.zeros_like(column), column], axis=1)


def look_like_probabilities(values: np.ndarray) -> bool:
    """Rows (n, k) in [0, 1] that sum to 1, as well as their number format can say."""
    slack = 4e-3 if values.dtype == np.float16 else 1e-3
    sums = np.abs(values.astype(np.float64).sum(1) - 1)
    return bool((values >= 0).all() and (values <= 1 + slack).all() and (sums < slack).all())
