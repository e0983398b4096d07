"""One threshold a predicted class: as many of each answer go to review, not of all together."""

import numpy as np

from buckler.stats import Threshold, conformal_threshold

ENOUGH = 500
"""Calibration rows from which a class has a threshold of its own."""


def thresholds_by_class(
    scores: np.ndarray, predicted: np.ndarray, classes: int, target: float
) -> tuple[Threshold, ...]:
    """A conformal threshold for each predicted class (Mondrian; Vovk, Gammerman, Shafer 2005).

    A class with fewer than 500 calibration rows shares one threshold with the other small ones;
    where those together are still too few, the smallest large classes join them. The classes are
    those *predicted*: a guard does not know the true one. Empty where one threshold serves all.

    Args:
        scores: (n,) combined scores of the calibrate split.
        predicted: (n,) int, the guard's answers there.
        target: review rate of each class.
    """
    counts = np.bincount(predicted, minlength=classes)
    # Of the rate as well, so that a threshold is not one of the class's last few rows.
    least = max(ENOUGH, int(np.ceil(1 / target)))
    order = counts.argsort(kind="stable")
    pooled = [label for label in order if counts[label] < least]
    while pooled and counts[pooled].sum() < least and len(pooled) < classes:
        pooled.append(order[len(pooled)])
    if len(pooled) == classes:
        return ()
    shared = np.isin(predicted, pooled)
    groups = [shared if label in pooled else predicted == label for label in range(classes)]
    return tuple(conformal_threshold(scores[group].tolist(), target) for group in groups)
