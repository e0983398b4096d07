"""How much of the embedding lies where training inputs never go."""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.protocols import Features

_KEPT = 0.95  # of the training embeddings' variance lies in the principal space


class ViM:
    """Virtual-logit matching (Wang, Li, Feng, Zhang 2022, arXiv:2203.10807), (n,).

    The first member's embedding is split into the training rows' principal space and the rest; the
    norm of the rest, scaled to the size of a top logit, stands as one more logit. The score is
    that logit's log-odds against all classes: the paper's probability without its saturation.

    Departures: the origin is the mean embedding, since a detector does not see the last layer's
    weights; the principal space holds 95 % of the variance (the paper's 1000 or 512 dimensions are
    more than small nets have), and leaves out one direction at the least.
    """

    name = "vim"

    def __init__(self, origin: np.ndarray, rest: np.ndarray, scale: np.ndarray) -> None:
        """origin (d,), rest (d, r): orthonormal directions outside the principal space, scale."""
        self._origin = torch.from_numpy(np.ascontiguousarray(origin, np.float32))
        self._rest = torch.from_numpy(np.ascontiguousarray(rest, np.float32))
        self._scale = float(np.asarray(scale).reshape(()))

    @classmethod
    def fit(cls, features: Features) -> Self:
        """On clean rows: no labels needed."""
        embed = _embedding(features).double().cpu().numpy()
        origin = embed.mean(0)
        centred = embed - origin
        values, vectors = np.linalg.eigh(centred.T @ centred / len(embed))  # ascending
        outside = int((np.cumsum(values) <= (1 - _KEPT) * values.sum()).sum())
        rest = vectors[:, : max(1, outside)]
        norms = np.linalg.norm(centred @ rest, axis=1)
        top = features.logits[0, 0].double().cpu().numpy().max(1)
        return cls(origin, rest, np.array(top.mean() / max(float(norms.mean()), 1e-12)))

    def score(self, features: Features) -> Tensor:
        embed = _embedding(features)
        outside = (embed - self._origin.to(embed)) @ self._rest.to(embed)
        # A root has no slope at 0: a hair under it keeps the gradient finite there.
        norm = (outside.square().sum(1) + torch.finfo(embed.dtype).tiny ** 0.5).sqrt()
        score: Tensor = self._scale * norm - features.logits[0, 0].logsumexp(1)
        return score

    def state(self) -> Mapping[str, np.ndarray]:
        return {
            "origin": self._origin.numpy(),
            "rest": self._rest.numpy(),
            "scale": np.array([self._scale]),
        }


def _embedding(features: Features) -> Tensor:
    if features.embed is None:
        raise UsageError(
            "the detector 'vim' needs an embedding, and this guard's first member has no Linear "
            "layer to take it from: leave 'vim' out of the detectors"
        )
    return features.embed[0]
