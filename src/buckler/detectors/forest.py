"""Isolation forest on the raw input: the article's anomaly detector, kept as its baseline."""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor

from buckler.inputs import straight_through
from buckler.protocols import Features

_SOFTNESS = 0.02  # of the box: how far a split blurs in the surrogate
_SOFT_TREES = 8  # trees of the surrogate: the gradient of their mean is that of all, nearly


class IsolationForest:
    """Isolation forest (Liu, Ting, Zhou 2008) as flat arrays; fitted by scikit-learn.

    score = max(0, 2·s − 1) in [0, 1], s = 2^(−mean depth / c): 0 up to scikit-learn's own border
    between inlier and outlier, 1 for a point isolated at once. Forward walks the trees; backward
    is that of its first trees with soft splits, so that an adaptive attacker has a gradient.
    """

    name = "forest"

    def __init__(
        self,
        feature: np.ndarray,
        threshold: np.ndarray,
        left: np.ndarray,
        right: np.ndarray,
        depth: np.ndarray,
        normaliser: np.ndarray,
    ) -> None:
        """Arrays (trees, nodes); a leaf has feature −1 and is its own child; depth holds a leaf's
        path length with the mean length of its unsplit rows."""
        self._feature = torch.from_numpy(np.ascontiguousarray(feature, np.int64))
        self._threshold = torch.from_numpy(np.ascontiguousarray(threshold, np.float32))
        self._left = torch.from_numpy(np.ascontiguousarray(left, np.int64))
        self._right = torch.from_numpy(np.ascontiguousarray(right, np.int64))
        self._depth = torch.from_numpy(np.ascontiguousarray(depth, np.float32))
        self._normaliser = float(np.asarray(normaliser).reshape(()))
        self._levels = _levels(self._left, self._right, self._feature)
        few = slice(0, _SOFT_TREES)
        self._soft_levels = _levels(self._left[few], self._right[few], self._feature[few])

    @classmethod
    def fit(cls, features: Features, trees: int = 100) -> Self:
        from sklearn.ensemble import IsolationForest as Fitted

        x = features.views[0].flatten(1).cpu().numpy()
        forest = Fitted(n_estimators=trees, random_state=0).fit(x)
        size = max(tree.tree_.node_count for tree in forest.estimators_)
        shape = (trees, size)
        feature, threshold = np.full(shape, -1), np.zeros(shape)
        left = np.tile(np.arange(size), (trees, 1))
        right, depth = left.copy(), np.zeros(shape)
        for row, fitted in enumerate(forest.estimators_):
            tree, n = fitted.tree_, fitted.tree_.node_count
            inner = tree.children_left >= 0
            feature[row, :n][inner] = tree.feature[inner]
            threshold[row, :n][inner] = tree.threshold[inner]
            left[row, :n][inner] = tree.children_left[inner]
            right[row, :n][inner] = tree.children_right[inner]
            depth[row, :n] = _path_lengths(tree)
        normaliser = _mean_path(np.array([forest.max_samples_]))
        return cls(feature, threshold, left, right, depth, normaliser)

    def score(self, features: Features) -> Tensor:
        x = features.views[0].flatten(1)
        with torch.no_grad():
            hard = self._to_score(self._walk(x.detach()))
        if not x.requires_grad:
            return hard
        return straight_through(2 * self._exponential(self._blur(x)) - 1, hard)

    def state(self) -> Mapping[str, np.ndarray]:
        return {
            "feature": self._feature.numpy(),
            "threshold": self._threshold.numpy(),
            "left": self._left.numpy(),
            "right": self._right.numpy(),
            "depth": self._depth.numpy(),
            "normaliser": np.array([self._normaliser]),
        }

    def _exponential(self, depth: Tensor) -> Tensor:
        return torch.exp2(-depth / self._normaliser)

    def _to_score(self, depth: Tensor) -> Tensor:
        return (2 * self._exponential(depth) - 1).clamp_min(0)

    def _walk(self, x: Tensor) -> Tensor:
        """(n,) mean path length over the trees."""
        trees, size = self._feature.shape
        roots = torch.arange(trees) * size
        feature, threshold = self._feature.flatten().clamp_min(0), self._threshold.flatten()
        left = (self._left + roots[:, None]).flatten()
        right = (self._right + roots[:, None]).flatten()
        node = roots.expand(len(x), trees)
        for _ in self._levels:
            goes_left = x.gather(1, feature[node]) <= threshold[node]
            node = torch.where(goes_left, left[node], right[node])
        return self._depth.flatten()[node].mean(1)

    def _blur(self, x: Tensor) -> Tensor:
        """The mean path length where a split is a sigmoid: differentiable everywhere."""
        few = slice(0, _SOFT_TREES)
        trees, size = self._feature[few].shape
        roots = torch.arange(trees)[:, None] * size
        left, right = (self._left[few] + roots).flatten(), (self._right[few] + roots).flatten()
        feature, threshold = self._feature[few].flatten(), self._threshold[few].flatten()
        reach = x.new_zeros(len(x), trees * size)
        reach[:, roots[:, 0]] = 1.0
        for inner in self._soft_levels:
            goes_left = torch.sigmoid((threshold[inner] - x[:, feature[inner]]) / _SOFTNESS)
            here = reach[:, inner]
            moved = torch.cat([here * goes_left, here * (1 - goes_left)], 1)
            reach = reach.index_add(1, torch.cat([left[inner], right[inner]]), moved)
        leaves = (feature < 0).nonzero()[:, 0]
        return (reach[:, leaves] * self._depth[few].flatten()[leaves]).sum(1) / trees


def _path_lengths(tree: object) -> np.ndarray:
    """Each node's path length: its depth, plus the mean of an unsplit subtree at a leaf."""
    left, right = tree.children_left, tree.children_right  # type: ignore[attr-defined]
    depth = np.zeros(len(left))
    for node in range(len(left)):  # children come after their parent
        if left[node] >= 0:
            depth[left[node]] = depth[right[node]] = depth[node] + 1
    rows = tree.n_node_samples  # type: ignore[attr-defined]
    return depth + np.where(left < 0, _mean_path(rows), 0.0)


def _mean_path(rows: np.ndarray) -> np.ndarray:
    """c(n): the mean path length of an unsuccessful search in a tree of n rows (Liu et al.)."""
    n = np.asarray(rows, dtype=np.float64)
    many = 2 * (np.log(np.maximum(n - 1, 1)) + np.euler_gamma) - 2 * (n - 1) / np.maximum(n, 1)
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, many))


def _levels(left: Tensor, right: Tensor, feature: Tensor) -> list[Tensor]:
    """Flat node ids by depth, the root first, leaves left out."""
    trees, size = feature.shape
    flat = torch.arange(trees)[:, None] * size
    left, right, feature = (left + flat).flatten(), (right + flat).flatten(), feature.flatten()
    level = torch.arange(trees) * size
    levels = []
    while len(level := level[feature[level] >= 0]):
        levels.append(level)
        level = torch.cat([left[level], right[level]])
    return levels
