"""A module's forward as a graph of layers, for whoever bounds it layer by layer."""

import operator
from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.fx.node import map_arg

from buckler.errors import UsageError
from buckler.models.module import TorchClassifier

Rule = Callable[[fx.Node, nn.Module | None, Any, Any], Any]


class Traced:
    """The graph of a forward that returns one tensor of logits.

    Raises: UsageError for anything that torch.fx cannot trace.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise UsageError(f"bounds of layers need an nn.Module. Got {type(model).__name__}")
        model = model.module if isinstance(model, TorchClassifier) else model
        self.root = nn.Sequential(model)  # tracing leaves constants in its root: not in the model
        try:
            self._graph = fx.Tracer().trace(self.root)
        except Exception as error:  # tracing runs the user's forward on stand-ins
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                "bounds of layers need a forward without branches on its data, which torch.fx can "
                f"trace. Got {type(model).__name__}: {why}"
            ) from None
        (self.logits,) = next(iter(reversed(self._graph.nodes))).args
        if not isinstance(self.logits, fx.Node):
            raise UsageError(
                "bounds of layers need a forward that returns one tensor of logits (n, k). "
                f"Got {type(self.logits).__name__}"
            )

    def layer(self, node: fx.Node) -> nn.Module | None:
        return self.root.get_submodule(str(node.target)) if node.op == "call_module" else None

    def nodes(self) -> list[fx.Node]:
        """In the order of the forward."""
        return list(self._graph.nodes)

    def walk(self, value: Any, last: fx.Node, rule: Rule) -> dict[fx.Node, Any]:
        """The value of each node up to `last`, in the order of the forward.

        Args:
            value: the input's.
            rule: node, layer, args, kwargs → the node's value.
        """
        values: dict[fx.Node, Any] = {}
        for node in self._graph.nodes:
            args, kwargs = (map_arg(part, values.__getitem__) for part in (node.args, node.kwargs))
            if node.op == "placeholder":
                values[node] = value
            elif node.op == "get_attr":
                values[node] = operator.attrgetter(str(node.target))(self.root)
            else:
                values[node] = rule(node, self.layer(node), args, kwargs)
            if node is last:
                break
        return values
