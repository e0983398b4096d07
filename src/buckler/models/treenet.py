"""A booster as plain arrays: it travels in a bundle, and is judged without its library."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from buckler.models.boosting import LightGBMClassifier, XGBoostClassifier
from buckler.models.trees import Split, trees_of

FACTORY = "buckler.models.treenet:tree_net"
_ARRAYS = ("column", "at", "left", "right", "value", "base", "levels")


class TreeNet(nn.Module):
    """x (n, width) → logits (n, 2): half the log-odds over the threshold, either way.

    Rows with column < at go left; sums in float64. Gives no gradient: attack it with searches.
    """

    column: Tensor
    at: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    base: Tensor
    levels: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in _ARRAYS:
            self.register_buffer(name, torch.zeros(0))

    @classmethod
    def of(
        cls, model: XGBoostClassifier | LightGBMClassifier, width: int, threshold: float = 0.0
    ) -> "TreeNet":
        """The booster of so many columns, answering 1 where its log-odds lie over the threshold."""
        trees = trees_of(model)
        flat = [_flat(tree) for tree in trees]
        size = max(len(rows) for rows in flat)
        table = np.zeros((len(flat), size, 5))
        for index, rows in enumerate(flat):
            table[index, : len(rows)] = rows
        net = cls()
        net.column = torch.from_numpy(table[..., 0]).long()
        net.at = torch.from_numpy(table[..., 1]).float()
        net.left, net.right = (torch.from_numpy(table[..., i]).long() for i in (2, 3))
        net.value = torch.from_numpy(table[..., 4])
        net.levels = torch.tensor(max(map(_depth, trees)))
        net.base = torch.zeros(1, dtype=torch.float64)
        origin = torch.zeros(1, width)
        logits = model(origin).double()
        net.base = logits[0, 1:] - logits[0, :1] - net.log_odds(origin) - threshold
        return net.eval()

    def log_odds(self, x: Tensor) -> Tensor:
        """(n,) float64, over the threshold."""
        trees, size = self.column.shape
        first = torch.arange(trees, device=x.device) * size
        column, at = self.column.flatten(), self.at.flatten()
        left = (self.left + first[:, None]).flatten()
        right = (self.right + first[:, None]).flatten()
        node = first.expand(len(x), trees)
        for _ in range(int(self.levels)):
            node = torch.where(x.gather(1, column[node]) < at[node], left[node], right[node])
        total: Tensor = self.value.flatten()[node].sum(1) + self.base
        return total

    def forward(self, x: Tensor) -> Tensor:
        half = (self.log_odds(x.detach()) / 2).to(x)
        return torch.stack([-half, half], 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in _ARRAYS:  # of the sizes that come
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


def tree_net() -> TreeNet:
    """An empty one, for the arrays of a bundle."""
    return TreeNet()


def _flat(tree: Split | float) -> list[list[float]]:
    """[column, at, left, right, value] of each node, the root first; a leaf is its own child."""
    rows: list[list[float]] = []

    def add(node: Split | float) -> int:
        index = len(rows)
        rows.append([0.0, 0.0, index, index, 0.0 if isinstance(node, Split) else node])
        if isinstance(node, Split):
            rows[index][:2] = [node.column, node.at]
            rows[index][2], rows[index][3] = add(node.left), add(node.right)
        return index

    add(tree)
    return rows


def _depth(tree: Split | float) -> int:
    return 1 + max(_depth(tree.left), _depth(tree.right)) if isinstance(tree, Split) else 0
