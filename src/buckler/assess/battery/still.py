"""A random model with its draws fixed, whoever else draws in the process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from buckler.protocols import Classifier


@dataclass(frozen=True)
class Still:
    """The view, whose torch operations that draw are handed a generator set anew at each call.

    Setting torch's own generator and putting it back would not do: there is one a process, and
    batteries run in threads side by side. Draws that no generator can be handed to (numpy's, a
    generator the model keeps itself) stay as they are: ask twice whether the answers vary.
    """

    view: Classifier
    seed: int

    def __call__(self, x: Tensor) -> Tensor:
        with _Handed(torch.Generator(x.device).manual_seed(self.seed)):
            return self.view(x)


class _Handed(TorchDispatchMode):
    """Within it, in this thread, operations that draw do so from the generator given."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = generator

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags and named.get("generator") is None:
            drawing = _with_generator(func)
            if drawing is not None:
                return drawing(*args, **named, generator=self.generator)
        return func(*args, **named)


def _with_generator(func: Any) -> Callable[..., Any] | None:
    """The same operation in the form that takes a generator, if there is one."""
    packet = func.overloadpacket
    for name in (func._overloadname, *packet.overloads()):
        overload = getattr(packet, name)
        asked = _arguments(overload)
        if ("generator", "Optional[Generator]") in asked and _same(asked, _arguments(func)):
            found: Callable[..., Any] = overload
            return found
    return None


def _arguments(func: Any) -> list[tuple[str, str]]:
    return [(each.name, str(each.type)) for each in func._schema.arguments]


def _same(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> bool:
    """Alike but for the generator."""
    return [a for a in one if a[0] != "generator"] == [a for a in other if a[0] != "generator"]
