"""What each layer does to a box: the rules that interval bounds are made of.

Each rule is sound: whatever the layer makes of a point of the box lies in the box it returns. A
layer that is in no table is refused by name.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.nn import functional

from buckler.errors import UsageError

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Box:
    """Every tensor between `low` and `high`."""

    low: Tensor
    high: Tensor


RELUS = {nn.ReLU, functional.relu, torch.relu, "relu", "relu_"}
_SHAPING = {  # no output falls when inputs rise, and all are linear in them
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d),
    *(nn.AdaptiveAvgPool2d, nn.ZeroPad2d, nn.PixelShuffle, functional.avg_pool2d),
    *(torch.avg_pool1d, functional.adaptive_avg_pool2d, functional.pad, torch.flatten),
    *(torch.reshape, torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose, torch.cat),
    *(torch.stack, torch.mean, torch.sum, operator.getitem, "flatten", "view", "reshape"),
    *("squeeze", "unsqueeze", "permute", "transpose", "contiguous", "clone", "mean", "sum"),
    *("expand", "float", "double", "to"),
}
_RISING = (
    RELUS
    | _SHAPING
    | {
        *(nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.Tanh, nn.Hardtanh, nn.Sigmoid),
        *(nn.Hardsigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.MaxPool1d, nn.MaxPool2d),
        *(nn.AdaptiveMaxPool2d, torch.tanh, torch.sigmoid, functional.softplus),
        *(functional.max_pool2d, torch.max_pool2d, torch.clamp, torch.amax, torch.amin),
        *(torch.maximum, torch.minimum, "tanh", "sigmoid", "clamp", "clamp_min", "clamp_max"),
        *("amax", "amin"),
    }
)
_DROPOUTS = {
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
    *(functional.dropout, functional.dropout1d, functional.dropout2d),
}
_NEGATIONS = {operator.neg, torch.neg, "neg"}
_FACTS = {"shape", "ndim", "dtype", "device", "size", "dim"}  # the same at both ends


def kind_of(node: fx.Node, layer: nn.Module | None) -> Any:
    """What the tables know a node by: a layer's exact type (one derived from it may do anything
    else), a function, a method's name."""
    return node.target if layer is None else type(layer)


def plain(node: fx.Node, layer: nn.Module | None, args: Any, kwargs: Any) -> Any:
    """A node that the input does not reach, as it stands."""
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    call: Any = node.target if layer is None else layer
    return call(*args, **kwargs)


def bounded(node: fx.Node, layer: nn.Module | None, args: Any, kwargs: Any) -> Any:
    """A node over a Box."""
    kind = kind_of(node, layer)
    fact = args[1] if kind is getattr else kind
    if isinstance(fact, str) and fact in _FACTS:
        return plain(node, layer, *_end((args, kwargs), "low"))
    in_place = _in_place(node, layer)
    if in_place and len(node.all_input_nodes[0].users) > 1:
        raise _refused(node, layer, "changes in place what other layers read too")
    if kind in _DROPOUTS:
        return args[0]
    if kind in _NEGATIONS:
        return Box(-args[0].high, -args[0].low)
    if kind in _AFFINE and len(args) == 1:
        assert layer is not None
        middle, radius = _AFFINE[kind](layer, *sum_and_width(args[0]))
        return Box(middle - radius, middle + radius)
    if kind in _ARITHMETIC and len(args) == 2 and not kwargs:
        return _ARITHMETIC[kind](node, layer, *args)
    if kind in _RISING and _slope(layer) >= 0:
        ends = (_end((args, kwargs), end, copied=in_place) for end in ("low", "high"))
        low, high = (plain(node, layer, *end) for end in ends)
        return Box(low, high)
    raise _refused(node, layer, "has no interval bounds")


def _refused(node: fx.Node, layer: nn.Module | None, why: str) -> UsageError:
    target = str(getattr(node.target, "__name__", node.target))
    name = f"'{target}'" if layer is None else f"'{target[2:]}' ({type(layer).__name__})"
    return UsageError(
        f"layer {name} {why}: interval bounds go through Linear, Conv, BatchNorm, Dropout, "
        "pooling, ReLU and other functions that never fall, sums, differences, products with "
        "constants, reshaping and concatenation"
    )


def _slope(layer: nn.Module | None) -> float:
    """The parameter that decides whether these layers rise."""
    if isinstance(layer, nn.LeakyReLU):
        return layer.negative_slope
    return layer.alpha if isinstance(layer, nn.ELU | nn.CELU) else 1.0


def _in_place(node: fx.Node, layer: nn.Module | None) -> bool:
    name = str(getattr(node.target, "__name__", node.target))
    by_name = layer is None and (name.endswith("_") or name in ("iadd", "isub", "imul", "itruediv"))
    return by_name or bool(node.kwargs.get("inplace", getattr(layer, "inplace", False)))


def boxes_in(values: Any) -> list[Box]:
    found: list[Box] = []
    map_aggregate(values, lambda v: found.append(v) if isinstance(v, Box) else None)
    return found


def _end(values: Any, end: str, copied: bool = False) -> Any:
    """`values` with one end of every Box; copied, for a layer that works in place."""

    def pick(value: Any) -> Any:
        if not isinstance(value, Box):
            return value
        found: Tensor = getattr(value, end)
        return found.clone() if copied else found

    return map_aggregate(values, pick)


def sum_and_width(box: Box) -> Pair:
    """Twice the middle, twice the radius: the weights are halved instead, they are fewer."""
    return box.high + box.low, box.high - box.low


def _linear(layer: nn.Linear, total: Tensor, width: Tensor) -> Pair:
    weight = layer.weight / 2
    return functional.linear(total, weight, layer.bias), functional.linear(width, weight.abs())


def _convolution(layer: nn.Conv2d, total: Tensor, width: Tensor) -> Pair:
    weight = layer.weight / 2
    spread = layer._conv_forward(width, weight.abs(), None)
    return layer._conv_forward(total, weight, layer.bias), spread


def _batch_norm(layer: nn.BatchNorm2d, total: Tensor, width: Tensor) -> Pair:
    if layer.running_mean is None or layer.running_var is None:
        raise UsageError("interval bounds need a batch norm with running statistics. Got none")
    scale = torch.rsqrt(layer.running_var + layer.eps)
    scale = scale if layer.weight is None else scale * layer.weight
    shift = -layer.running_mean * scale
    shift = shift if layer.bias is None else shift + layer.bias
    shape = (1, -1, *[1] * (total.ndim - 2))
    scale, shift = scale.reshape(shape) / 2, shift.reshape(shape)
    return total * scale + shift, width * scale.abs()


_AFFINE: dict[object, Callable[..., Pair]] = {
    nn.Linear: _linear,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
}


def _ends(value: Any) -> tuple[Any, Any]:
    return (value.low, value.high) if isinstance(value, Box) else (value, value)


def _sum(node: fx.Node, layer: nn.Module | None, one: Any, other: Any) -> Box:
    (low, high), (other_low, other_high) = _ends(one), _ends(other)
    return Box(low + other_low, high + other_high)


def _difference(node: fx.Node, layer: nn.Module | None, one: Any, other: Any) -> Box:
    (low, high), (other_low, other_high) = _ends(one), _ends(other)
    return Box(low - other_high, high - other_low)


def _product(node: fx.Node, layer: nn.Module | None, one: Any, other: Any) -> Box:
    if len(boxes_in((one, other))) != 1:
        raise _refused(node, layer, "multiplies two values that both depend on the input")
    (low, high), (other_low, other_high) = _ends(one), _ends(other)
    return _sorted(low * other_low, high * other_high)


def _quotient(node: fx.Node, layer: nn.Module | None, one: Any, other: Any) -> Box:
    if isinstance(other, Box):
        raise _refused(node, layer, "divides by a value that depends on the input")
    return _sorted(one.low / other, one.high / other)


def _sorted(one: Tensor, other: Tensor) -> Box:
    return Box(torch.minimum(one, other), torch.maximum(one, other))


_ARITHMETIC: dict[object, Callable[..., Box]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add"), _sum),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub"), _difference),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul"), _product),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div"), _quotient),
}

AFFINE = {*_SHAPING, *_DROPOUTS, *_NEGATIONS, *_AFFINE, *_ARITHMETIC}
"""The kinds whose value is an affine function of all their inputs together, in eval mode."""
