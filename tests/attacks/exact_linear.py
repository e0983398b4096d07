"""Linear models whose exact distances are known, and on which one step along the gradient is best.

Each class has weights of one size on inputs of its own, so every pair of classes is equally steep:
the runner-up is the nearest class, and no step towards it helps a third.
"""

from math import prod

import torch
from torch import Tensor

from buckler import draws
from buckler.testing import LinearModel

CASES = [  # shape of an input, classes
    ((30,), 2),
    ((30,), 10),
    ((5, 6), 3),
    ((3, 2, 5), 10),
    ((1, 6, 5), 2),
]


def exact_linear(shape: tuple[int, ...], classes: int, scale: float = 1.0) -> LinearModel:
    size = prod(shape)
    signs = torch.where(draws.uniform(0, torch.tensor([0]), 0, (size,))[0] < 0.5, -1.0, 1.0)
    own = torch.arange(size) % classes == torch.arange(classes)[:, None]
    weight = scale * (own * signs).double()
    return LinearModel(weight, -weight.sum(1) / 2).eval().requires_grad_(False)


def inputs(n: int, shape: tuple[int, ...], model: LinearModel) -> tuple[Tensor, Tensor, Tensor]:
    """x about the middle of the box, y the model's answer, and the runner-up."""
    x = 0.45 + 0.1 * draws.uniform(1, torch.arange(n), 0, shape).double()
    top = model(x).topk(2, 1).indices
    return x, top[:, 0], top[:, 1]


def radius(model: LinearModel, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """(n,) exact distance to the nearest input of another class, the box left aside: the margin
    over the dual norm of the difference of two classes' weights."""
    logits = model(x)
    margin = logits.gather(1, y[:, None]) - logits
    slopes = model.weight[y][:, None] - model.weight[None]
    dual = torch.linalg.vector_norm(slopes, ord=1 if norm == "linf" else 2, dim=2)
    own = torch.nn.functional.one_hot(y, logits.shape[1]).bool()
    return (margin / dual.masked_fill(own, 1)).masked_fill(own, torch.inf).amin(1)


class Counting:
    """The model, and how many rows and calls it was asked for."""

    def __init__(self, model) -> None:
        self.model, self.rows, self.calls = model, 0, 0
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        self.calls += 1
        self.seen.append(x.detach().clone())
        return self.model(x)
