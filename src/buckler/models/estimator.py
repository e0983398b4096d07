"""Any scikit-learn estimator with predict_proba: for black-box attacks."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.models.scores import log_probabilities


class Estimator(Protocol):
    def predict_proba(self, x: np.ndarray) -> np.ndarray: ...


class EstimatorClassifier:
    """Log-probabilities of a fitted estimator as logits; gives no gradient.

    Columns follow the estimator's own `classes_`, which must be 0..k−1: column j is label j.
    """

    def __init__(self, estimator: Estimator) -> None:
        if not callable(getattr(estimator, "predict_proba", None)):
            raise UsageError(
                f"a scikit-learn model must have predict_proba. Got {type(estimator).__name__}: "
                "fit it with probability=True, or wrap it in CalibratedClassifierCV"
            )
        classes = getattr(estimator, "classes_", None)
        if classes is None:
            raise UsageError(f"fit the {type(estimator).__name__} before it is assessed")
        if list(classes) != list(range(len(classes))):
            raise UsageError(f"the estimator's classes must be 0..k-1. Got {list(classes)[:10]}")
        self.estimator = estimator

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.detach().flatten(1).cpu().numpy()
        if not len(rows):
            return x.new_zeros(0, len(self.estimator.classes_))  # type: ignore[attr-defined]
        return torch.from_numpy(log_probabilities(self.estimator.predict_proba(rows))).to(x)
