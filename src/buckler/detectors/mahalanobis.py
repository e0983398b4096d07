"""How far the embedding lies from its class, by the training rows' own spread."""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.protocols import Features


class Mahalanobis:
    """Mahalanobis distance to the nearest class mean, one covariance for all classes.

    (Lee et al. 2018, arXiv:1807.03888, on the first member's embedding; the covariance is shrunk
    by Ledoit and Wolf 2004.) Stored as whitened means: one distance matrix per batch.
    """

    name = "mahalanobis"

    def __init__(self, whiten: np.ndarray, means: np.ndarray) -> None:
        self._whiten = torch.from_numpy(np.ascontiguousarray(whiten, np.float32))
        self._means = torch.from_numpy(np.ascontiguousarray(means, np.float32))

    @classmethod
    def fit(cls, features: Features, y: np.ndarray) -> Self:
        from sklearn.covariance import LedoitWolf

        embed = _embedding(features).double().cpu().numpy()
        labels = np.unique(y)
        means = np.stack([embed[y == label].mean(0) for label in labels])
        centred = embed - means[np.searchsorted(labels, y)]
        covariance = LedoitWolf(assume_centered=True).fit(centred).covariance_
        values, vectors = np.linalg.eigh(covariance)
        whiten = vectors / np.sqrt(np.clip(values, 1e-9, None))
        return cls(whiten, means @ whiten)

    def score(self, features: Features) -> Tensor:
        embed = _embedding(features)
        white = embed @ self._whiten.to(embed)
        return torch.cdist(white, self._means.to(embed)).amin(1)

    def state(self) -> Mapping[str, np.ndarray]:
        return {"whiten": self._whiten.numpy(), "means": self._means.numpy()}


def _embedding(features: Features) -> Tensor:
    if features.embed is None:
        raise UsageError(
            "the detector 'mahalanobis' needs an embedding, and this guard's first member has no "
            "Linear layer to take it from: leave 'mahalanobis' out of the detectors"
        )
    return features.embed[0]
