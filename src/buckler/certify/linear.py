"""Linear bounds (CROWN): logits between two linear functions of the input, tighter than intervals.

Zhang et al. 2018, arXiv:1811.00866; on general graphs Xu et al. 2020, arXiv:2002.12920. A linear
function of the logits is pulled back layer by layer: through an affine layer exactly; through a
ReLU under the chord, or over one of two lines, by the sign of each coefficient. What has no such
rule (max pooling, a sigmoid) is taken at its interval bounds, which is sound too.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import torch
from torch import Tensor, fx, nn
from torch.func import vjp, vmap
from torch.fx.node import map_arg
from torch.nn import functional

from buckler.certify.boxes import AFFINE, RELUS, Box, kind_of, plain
from buckler.certify.interval import Interval
from buckler.errors import UsageError

Inner = Literal["both", "linear", "interval"]
_BUDGET: Final = 1 << 21  # numbers in one pulled-back batch of coefficients: more leave the cache
_OUT_OF_PLACE: Final = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


class Crown:
    """Linear bounds of a module's logits in eval mode, traced once and asked for often.

    Args:
        inner: how the bounds before each ReLU are found: "linear", by pulling each unit back to the
            input, as published; "interval" (CROWN-IBP, Zhang et al. 2020, arXiv:1906.06316), which
            is quick; "both", the tighter of the two, unit by unit.

    Raises: UsageError as Interval does, and for a model in training mode.
    """

    def __init__(self, model: nn.Module, inner: Inner = "both") -> None:
        self._interval = Interval(model)
        if any(part.training for part in model.modules()):
            raise UsageError("linear bounds are of a model in eval mode: call model.eval() first")
        self._traced = self._interval.traced
        self._inner = inner

    @torch.no_grad()
    def bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """(n, k) least and largest that each logit can be for inputs between low and high."""
        values = self._values(low, high)
        box = values[self._traced.logits]
        each = torch.eye(box.low.shape[1]).to(low)[:, None].expand(-1, len(low), -1)
        logits = self._traced.logits
        return self._least(values, logits, each).T, -self._least(values, logits, -each).T

    @torch.no_grad()
    def differences(self, low: Tensor, high: Tensor, y: Tensor) -> Tensor:
        """(n, k) largest that z_j − z_y can be; 0 at y."""
        values = self._values(low, high)
        k = values[self._traced.logits].low.shape[1]
        one_hot = functional.one_hot(y, k).to(low)
        apart = one_hot[None] - torch.eye(k).to(low)[:, None]  # (k, n, k): z_y − z_j
        most: Tensor = -self._least(values, self._traced.logits, apart).T
        if self._inner == "both":
            most = torch.minimum(most, self._interval.differences(low, high, y))
        return most.scatter(1, y[:, None], 0.0)

    def _values(self, low: Tensor, high: Tensor) -> dict[fx.Node, Any]:
        """The interval bounds of each node, tightened before each ReLU."""
        logits = self._traced.logits
        values = self._interval.boxes(Box(low, high), logits)
        if self._inner == "interval":
            return values
        for node in list(values):
            before = node.all_input_nodes[0] if node.all_input_nodes else None
            if kind_of(node, self._traced.layer(node)) not in RELUS or before is None:
                continue
            box = values[before]
            if isinstance(box, Box) and self._reaches_relu(before, values):
                values[before] = self._tightened_units(values, before, box)
        return values

    def _reaches_relu(self, node: fx.Node, values: dict[fx.Node, Any]) -> bool:
        """Whether anything below is not affine: else intervals are as good."""
        return any(
            kind_of(each, self._traced.layer(each)) not in AFFINE
            for each in _below(node)
            if each.op != "placeholder" and isinstance(values[each], Box)
        )

    def _tightened_units(self, values: dict[fx.Node, Any], node: fx.Node, box: Box) -> Box:
        """The box of the node's units, those pulled back that may be on either side of 0."""
        low, high = (end.flatten(1).clone() for end in (box.low, box.high))
        alone = self._inner == "linear"
        unsure = torch.ones_like(low, dtype=torch.bool) if alone else (low < 0) & (high > 0)
        count = int(unsure.sum(1).max())
        units = unsure.float().topk(count, dim=1).indices if count else None
        for part in () if units is None else units.split(_at_once(values, len(low)), dim=1):
            spec = torch.zeros(part.shape[1], *low.shape, dtype=low.dtype, device=low.device)
            spec.scatter_(2, part.T[..., None], 1.0)
            spec = spec.reshape(part.shape[1], *box.low.shape)
            least, most = self._least(values, node, spec).T, -self._least(values, node, -spec).T
            if not alone:
                least = torch.maximum(low.gather(1, part), least)
                most = torch.minimum(high.gather(1, part), most)
            low.scatter_(1, part, least)
            high.scatter_(1, part, most)
        return Box(low.reshape(box.low.shape), high.reshape(box.high.shape))

    def _least(self, values: dict[fx.Node, Any], last: fx.Node, spec: Tensor) -> Tensor:
        """(s, n) a lower bound of each linear function of the value of `last`.

        spec: (s, n, ...) its coefficients.
        """
        pulled = {last: spec}
        least = torch.zeros(spec.shape[:2], dtype=spec.dtype, device=spec.device)
        for node in reversed(self._traced.nodes()):
            if node not in pulled:
                continue
            coefficients, layer = pulled.pop(node), self._traced.layer(node)
            kind = kind_of(node, layer)
            if kind in RELUS:
                before = node.all_input_nodes[0]
                into, shift = _through_relu(coefficients, values[before])
                _add(pulled, before, into)
            elif kind in AFFINE and node.op != "placeholder":
                inputs = [each for each in node.all_input_nodes if isinstance(values[each], Box)]
                parts, shift = _through_affine(coefficients, node, layer, inputs, values)
                for before, into in zip(inputs, parts, strict=True):
                    _add(pulled, before, into)
            else:
                shift = _at_worst(coefficients, values[node])
            least = least + shift
        return least


def _below(node: fx.Node) -> Iterator[fx.Node]:
    seen, waiting = set(), [node]
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            waiting += each.all_input_nodes
            yield each


def _at_once(values: dict[fx.Node, Any], n: int) -> int:
    """How many units are pulled back together: as many as the largest layer leaves room for."""
    widest = max(value.low[0].numel() for value in values.values() if isinstance(value, Box))
    return max(1, _BUDGET // (n * widest))


def _add(pulled: dict[fx.Node, Tensor], node: fx.Node, coefficients: Tensor) -> None:
    there = pulled.get(node)
    pulled[node] = coefficients if there is None else there + coefficients


def _dot(coefficients: Tensor, value: Tensor) -> Tensor:
    """(s, n, ...) and (n, ...) → (s, n)."""
    return torch.einsum("snd,nd->sn", coefficients.flatten(2), value.flatten(1))


def _at_worst(coefficients: Tensor, box: Box) -> Tensor:
    """(s, n) the least that the linear function is in the box."""
    middle, radius = (box.high + box.low) / 2, (box.high - box.low) / 2
    return _dot(coefficients, middle) - _dot(coefficients.abs(), radius)


def _through_relu(coefficients: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """The coefficients before a ReLU whose input lies in the box, and what is added.

    Where the input may have either sign, the value lies under the chord, and over the line through
    0 with slope 0 or 1, whichever leaves less room.
    """
    low, high = box.low, box.high
    crossing = (low < 0) & (high > 0)
    on = (low >= 0).to(low)
    chord = torch.where(crossing, high / (high - low).clamp_min(torch.finfo(low.dtype).tiny), on)
    floor = torch.where(crossing, (high > -low).to(low), on)
    below = coefficients.clamp_max(0)
    shift = _dot(below, torch.where(crossing, -low * chord, 0.0))
    return below.mul_(chord - floor).addcmul_(coefficients, floor), shift


def _through_affine(
    coefficients: Tensor,
    node: fx.Node,
    layer: nn.Module | None,
    inputs: list[fx.Node],
    values: dict[fx.Node, Any],
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The coefficients before an affine node, for each of its inputs, and what is added: the
    transposed layer, as autograd has it, and the layer's value at 0."""

    def forward(*given: Tensor) -> Tensor:
        stand_in = dict(zip(inputs, given, strict=True))
        args, kwargs = (
            map_arg(part, lambda each: stand_in.get(each, values[each]))
            for part in (node.args, node.kwargs)
        )
        value: Tensor = _affine(node, layer, args, kwargs)
        return value

    zeros = [torch.zeros_like(values[each].low) for each in inputs]
    found: Any = vjp(forward, *zeros)
    constant, pull = found
    parts: tuple[Tensor, ...] = vmap(pull)(coefficients)
    return parts, _dot(coefficients, constant)


def _affine(node: fx.Node, layer: nn.Module | None, args: Any, kwargs: Any) -> Any:
    if node.op == "call_function":
        call: Callable[..., Any] = _OUT_OF_PLACE.get(node.target, node.target)  # type: ignore[arg-type]
        return call(*args, **kwargs)
    return plain(node, layer, args, kwargs)
