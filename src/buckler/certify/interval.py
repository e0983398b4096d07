"""Interval bounds: between what numbers each logit stays while the input moves in a box.

Gowal et al. 2018, arXiv:1810.12715: every layer turns a box into a box that holds all of its
outputs. An affine layer moves the middle by its weights and the radius by their absolute values; a
layer whose outputs never fall when its inputs rise is applied to both ends. The bounds are
differentiable in the module's own weights, so that a net can be trained for them.
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn import functional

from buckler.certify.boxes import RELUS, Box, bounded, boxes_in, kind_of, plain, sum_and_width
from buckler.errors import UsageError
from buckler.models.module import TorchClassifier
from buckler.threats import LpBall
from buckler.threats.lp import per_row
from buckler.threats.rows import parts

_ROUNDING = 1e-5  # of the logits' size: a margin this thin may be the arithmetic's own
_FOREIGN = 1e-3  # of the same: logits so far outside of their bounds are another function's


class Interval:
    """Bounds of a module's logits, traced once and asked for often.

    They are of the net in eval mode, whatever its mode: batch norm by its running statistics,
    dropout the identity (a forward that asks for its own mode is traced in the mode it is in). The
    module's weights are read anew at each call.

    Raises: UsageError for a forward that torch.fx cannot trace, and, when bounds are asked for, for
        a layer that has none here, by its name.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise UsageError(f"interval bounds need an nn.Module. Got {type(model).__name__}")
        model = model.module if isinstance(model, TorchClassifier) else model
        self._root = nn.Sequential(model)  # tracing leaves constants in its root: not in the model
        try:
            self._graph = fx.Tracer().trace(self._root)
        except Exception as error:  # tracing runs the user's forward on stand-ins
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                "interval bounds need a forward without branches on its data, which torch.fx can "
                f"trace. Got {type(model).__name__}: {why}"
            ) from None
        (self._logits,) = next(iter(reversed(self._graph.nodes))).args
        if not isinstance(self._logits, fx.Node):
            raise UsageError(
                "interval bounds need a forward that returns one tensor of logits (n, k). "
                f"Got {type(self._logits).__name__}"
            )

    def bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """(n, k) least and largest that each logit can be for inputs between low and high."""
        logits = self._walk(Box(low, high), self._logits, None)
        return logits.low, logits.high

    def differences(
        self, low: Tensor, high: Tensor, y: Tensor, before_relu: list[Box] | None = None
    ) -> Tensor:
        """(n, k) largest that z_j − z_y can be; 0 at y: worst-case logits for cross entropy.

        A last Linear is merged into the differences, which is tighter than bounding each logit
        (§3 there). The bounds before each ReLU are appended to `before_relu`.
        """
        layer = self._layer(self._logits)
        if type(layer) is not nn.Linear:
            logits = self._walk(Box(low, high), self._logits, before_relu)
            most: Tensor = logits.high - logits.low.gather(1, y[:, None])
            return most.scatter(1, y[:, None], 0.0)
        (before,) = self._logits.all_input_nodes
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

    def _layer(self, node: fx.Node) -> nn.Module | None:
        return self._root.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _walk(self, box: Box, last: fx.Node, before_relu: list[Box] | None) -> Any:
        """The value of `last`: a Box, where it depends on the input."""
        values: dict[fx.Node, Any] = {}
        for node in self._graph.nodes:
            args, kwargs = (map_arg(part, values.__getitem__) for part in (node.args, node.kwargs))
            if node.op == "placeholder":
                values[node] = box
            elif node.op == "get_attr":
                values[node] = operator.attrgetter(str(node.target))(self._root)
            elif not boxes_in((args, kwargs)):
                values[node] = plain(node, self._layer(node), args, kwargs)
            else:
                values[node] = bounded(node, self._layer(node), args, kwargs)
                if before_relu is not None and kind_of(node, self._layer(node)) in RELUS:
                    before_relu.append(args[0])
            if node is last:
                break
        return values[last]


def around(x: Tensor, eps: float | Tensor, box: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Both ends of the L∞ ball of radius eps (a number or (n,)), inside the box."""
    radius = per_row(eps, x)
    return (x - radius).clamp(*box), (x + radius).clamp(*box)


def certified_accuracy(model: nn.Module, x: Tensor, y: Tensor, threat: LpBall) -> Tensor:
    """(n,) bool: rows where no point that the threat allows reaches its goal: a proof, with no
    probability in it.

    For an untargeted goal these rows are right, and stay right. A row may hold and not be
    certified: the bounds are not tight. The sums are rounded to nearest, not outwards; rows whose
    margin is within 1e-5 of their logits' size are not certified.

    Raises: UsageError for another norm than linf, a model in training mode, a layer without bounds,
        or a model that does something else than its layers (a hook that changes values).
    """
    if threat.norm != "linf":
        raise UsageError(f"interval bounds hold in norm linf. Got {threat.norm}")
    interval = Interval(model)
    if any(part.training for part in model.modules()):
        raise UsageError(
            "the model is in training mode (dropout and batch norm would answer at random): "
            "call model.eval() first"
        )
    held = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    with torch.no_grad():
        for part in parts(x):
            of = threat.take(part)
            differences = interval.differences(*around(x[part], of.eps, of.box), y[part])
            logits = model(x[part])
            size = 1 + logits.abs().amax(1)
            above = logits - logits.gather(1, y[part][:, None]) - differences
            if bool((above.amax(1) > _FOREIGN * size).any()):
                raise UsageError(
                    "the model's logits lie outside of the bounds of its own layers: something "
                    "else (a forward hook?) changes them. Bounds are of the layers alone"
                )
            allowed = of.goal.allowed(y[part], logits.shape[1])
            worst = differences.masked_fill(~allowed, -torch.inf).amax(1)
            held[part] = worst < -_ROUNDING * size
    return held
