"""The same network, laid out so that many forward and backward passes cost less."""

import copy

import torch
from torch import Tensor, nn
from torch.fx import Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

from buckler.models.input_conv import InputConv, fits
from buckler.models.module import TorchClassifier
from buckler.protocols import Classifier

_WIDE, _DEEP = 8, 3  # channels-last pays from so many convolutions of so many input channels
_STEP = 8  # row counts are padded to multiples of this: new shapes are slow, once each
_ROUNDING = 1e-4  # of the logits' range: what folding may change


def tuned(module: nn.Module, x: Tensor) -> Classifier:
    """A frozen copy of `module` in eval mode: batch norms folded into convolutions, channels-last
    where convolutions are wide, a cheap gradient of the first, batches in shapes that repeat.

    Its logits differ from the module's by rounding only; where folding cannot be done, or changes
    more, the layers stay as they are. Attack this one, and judge by the module itself.

    Args:
        x: (n, ...) some inputs, to compare the logits on.
    """
    plain = module.module if isinstance(module, TorchClassifier) else module
    plain = copy.deepcopy(plain).eval().requires_grad_(False)
    x = x[:16]
    folded = _folded(plain)
    best = plain if folded is None or not _agree(plain, folded, x) else folded
    wide = sum(isinstance(p, nn.Conv2d) and p.in_channels >= _WIDE for p in best.modules())
    deep = x.ndim == 4 and wide >= _DEEP
    layout = torch.channels_last if deep else torch.contiguous_format
    if layout is torch.channels_last:
        best = best.to(memory_format=layout)  # type: ignore[call-overload]
    if x.device.type == "cpu":
        best = _with_input_convolutions(best)
    return _Padded(TorchClassifier(best), layout)


def _with_input_convolutions(module: nn.Module) -> nn.Module:
    if fits(module):
        assert isinstance(module, nn.Conv2d)
        return InputConv(module)
    for name, part in module.named_children():
        setattr(module, name, _with_input_convolutions(part))
    return module


class _Padded(nn.Module):
    """Rows repeated up to a multiple of eight (a power of two below), their logits cut off."""

    def __init__(self, model: TorchClassifier, layout: torch.memory_format) -> None:
        super().__init__()
        self.model, self.layout = model.eval(), layout

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        wanted = -(-n // _STEP) * _STEP if n > _STEP else 1 << max(0, n - 1).bit_length()
        if wanted > n > 0:
            x = torch.cat([x, x[-1:].expand(wanted - n, *x.shape[1:])])
        if self.layout is torch.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.model(x)
        return logits[:n]


def _folded(module: nn.Module) -> nn.Module | None:
    """The module with each batch norm folded into the convolution before it; None where the
    module cannot be traced."""
    if not any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        return None
    try:
        traced = symbolic_trace(copy.deepcopy(module))
    except Exception:  # tracing runs the user's forward on stand-ins: it may raise anything
        return None
    parts = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution, norm = parts[str(before.target)], parts[str(node.target)]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            fused = fuse_conv_bn_eval(convolution, norm)
            traced.set_submodule(str(before.target), fused)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval().requires_grad_(False)


def _agree(one: nn.Module, other: nn.Module, x: Tensor) -> bool:
    with torch.no_grad():
        expected, got = TorchClassifier(one)(x), TorchClassifier(other)(x)
    near = (expected - got).abs().amax() <= _ROUNDING * expected.abs().amax().clamp_min(1)
    return bool(near)
