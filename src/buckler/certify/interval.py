"""Interval bounds: between what numbers each logit stays while the input moves in a box.

Gowal et al. 2018, arXiv:1810.12715: every layer turns a box into a box that holds all of its
outputs. An affine layer moves the middle by its weights and the radius by their absolute values; a
layer whose outputs never fall when its inputs rise is applied to both ends. The bounds are
differentiable in the module's own weights, so that a net can be trained for them.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from buckler.certify.boxes import RELUS, Box, bounded, boxes_in, kind_of, plain, sum_and_width
from buckler.certify.traced import Traced
from buckler.threats.lp import per_row


class Interval:
    """Bounds of a module's logits, traced once and asked for often.

    They are of the net in eval mode, whatever its mode: batch norm by its running statistics,
    dropout the identity (a forward that asks for its own mode is traced in the mode it is in). The
    module's weights are read anew at each call.

    Raises: UsageError for a forward that torch.fx cannot trace, and, when bounds are asked for, for
        a layer that has none here, by its name.
    """

    def __init__(self, model: nn.Module) -> None:
        self.traced = Traced(model)

    def bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """(n, k) least and largest that each logit can be for inputs between low and high."""
        logits = self._walk(Box(low, high), self.traced.logits, None)
        return logits.low, logits.high

    def differences(
        self, low: Tensor, high: Tensor, y: Tensor, before_relu: list[Box] | None = None
    ) -> Tensor:
        """(n, k) largest that z_j − z_y can be; 0 at y: worst-case logits for cross entropy.

        A last Linear is merged into the differences, which is tighter than bounding each logit
        (§3 there). The bounds before each ReLU are appended to `before_relu`.
        """
        layer = self.traced.layer(self.traced.logits)
        if type(layer) is not nn.Linear:
            logits = self._walk(Box(low, high), self.traced.logits, before_relu)
            most: Tensor = logits.high - logits.low.gather(1, y[:, None])
            return most.scatter(1, y[:, None], 0.0)
        (before,) = self.traced.logits.all_input_nodes
        box = self._walk(Box(low, high), before, before_relu)
        total, width = sum_and_width(box)
        weight = layer.weight / 2
        logits = functional.linear(total, weight, layer.bias)
        classes, of = y.unique(return_inverse=True)
        apart = (weight[None] - weight[classes][:, None]).abs()  # (classes there, k, d)
        reach = functional.linear(width, apart.flatten(0, 1)).unflatten(1, apart.shape[:2])
        reach = reach[torch.arange(len(y), device=y.device), of]
        differences: Tensor = logits - logits.gather(1, y[:, None]) + reach
        return differences

    def boxes(self, box: Box, last: fx.Node) -> dict[fx.Node, Any]:
        """The value of each node up to `last`: a Box, where it depends on the input."""
        return self.traced.walk(box, last, _rule)

    def _walk(self, box: Box, last: fx.Node, before_relu: list[Box] | None) -> Any:
        values = self.boxes(box, last)
        if before_relu is not None:
            relus = [node for node in values if kind_of(node, self.traced.layer(node)) in RELUS]
            before_relu += boxes_in([values[node.all_input_nodes[0]] for node in relus])
        return values[last]


def _rule(node: fx.Node, layer: nn.Module | None, args: Any, kwargs: Any) -> Any:
    return (bounded if boxes_in((args, kwargs)) else plain)(node, layer, args, kwargs)


def around(x: Tensor, eps: float | Tensor, box: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Both ends of the L∞ ball of radius eps (a number or (n,)), inside the box."""
    radius = per_row(eps, x)
    return (x - radius).clamp(*box), (x + radius).clamp(*box)
