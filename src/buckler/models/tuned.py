"""The same network, laid out so that many forward and backward passes cost less."""

import copy
import warnings

import torch
from torch import Tensor, nn
from torch.fx import Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

from buckler.models.input_conv import InputConv, fits, untouched
from buckler.models.module import TorchClassifier, logits_in
from buckler.protocols import Classifier

_WIDE, _DEEP = 8, 3  # channels-last pays from so many convolutions of so many input channels
_STEP = 8  # row counts are padded to multiples of this: new shapes are slow, once each
_ROUNDING = 1e-4  # of the logits' range: what folding may change
_TURNED = 0.02  # of the gradient's L1 norm: what units that stand at their kink may change


def tuned(module: nn.Module, x: Tensor, *, queries: bool = False) -> nn.Module:
    """A frozen copy of `module` in eval mode: batch norms folded into convolutions, channels-last
    where convolutions are wide, a cheap gradient of the first, batches in shapes that repeat.

    Its logits differ from the module's by rounding only; where folding cannot be done, or changes
    more, the layers stay as they are, and where the rest changes logits or gradients (a module
    whose rows feel their batch, one that draws), the copy is plain. Attack this one, and judge by
    the module itself.

    Args:
        x: (n, ...) some inputs, to compare logits and gradients on; three or more, so that a module
            whose rows feel their batch is found out.
        queries: many forwards without gradients will follow (attacks by scores or answers): they
            get a graph of their own, with layers fused. It costs a tenth of a second.
    """
    plain = module.module if isinstance(module, TorchClassifier) else module
    plain = copy.deepcopy(plain).eval()
    for parameter in plain.parameters():  # a scripted module's copies are no leaves
        parameter.detach_().requires_grad_(False)
    x = x[:16].detach()
    traced = _traced(plain)
    best = plain if traced is None or not _agree(plain, traced, x) else traced
    wide = sum(isinstance(p, nn.Conv2d) and p.in_channels >= _WIDE for p in best.modules())
    deep = x.ndim == 4 and wide >= _DEEP
    layout = torch.channels_last if deep else torch.contiguous_format
    fused = _fused(best, x) if queries and best is traced else None
    for memory in (layout, torch.contiguous_format):  # `view` refuses some channels-last tensors
        made = _Tuned(_laid_out(best, memory, x.device.type == "cpu"), memory, fused)
        if _same(plain, made, x):
            return made
    return _Tuned(plain, torch.contiguous_format, None, pad=False)


def _laid_out(module: nn.Module, layout: torch.memory_format, cpu: bool) -> nn.Module:
    module = copy.deepcopy(module)
    if layout is torch.channels_last:
        module = module.to(memory_format=layout)  # type: ignore[call-overload]
    return _with_input_convolutions(module) if cpu else module


def _with_input_convolutions(module: nn.Module) -> nn.Module:
    if fits(module):
        assert isinstance(module, nn.Conv2d)
        return InputConv(module)
    for name, part in module.named_children():
        setattr(module, name, _with_input_convolutions(part))
    return module


class _Tuned(nn.Module):
    """Rows repeated up to a multiple of eight (a power of two below), their logits cut off."""

    def __init__(
        self,
        module: nn.Module,
        layout: torch.memory_format,
        fused: Classifier | None,
        pad: bool = True,
    ) -> None:
        super().__init__()
        self.module, self.layout, self._pad = module.eval(), layout, pad
        self._fused = (fused,)  # in a tuple: not a part of this module

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        wanted = -(-n // _STEP) * _STEP if n > _STEP else 1 << max(0, n - 1).bit_length()
        if self._pad and wanted > n > 0:
            x = torch.cat([x, x[-1:].expand(wanted - n, *x.shape[1:])])
        fused = self._fused[0]
        if fused is not None and n and not torch.is_grad_enabled():
            return fused(x)[:n]
        if self.layout is torch.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return logits_in(self.module(x))[:n]


def _fused(module: nn.Module, x: Tensor) -> Classifier | None:
    """The module's forward as one optimised graph; None where that cannot be had.

    Only for a module that was traced symbolically: it has no branches that a graph would lose.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, and has no successor here
            graph = torch.jit.freeze(torch.jit.trace(module, x[:8].contiguous()))
            graph = torch.jit.optimize_for_inference(graph)
            same = all(_agree(module, graph, x[:n].contiguous()) for n in (1, 3, 16))
    except Exception:  # whatever tracing meets in the user's layers
        return None
    return graph if same else None


def _traced(module: nn.Module) -> nn.Module | None:
    """The module as a graph, each batch norm folded into the convolution before it; None where
    it cannot be traced."""
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
        ordinary = untouched(convolution, nn.Conv2d) and untouched(norm, nn.BatchNorm2d)
        if ordinary and norm.running_mean is not None:
            fused = fuse_conv_bn_eval(convolution, norm)
            traced.set_submodule(str(before.target), fused)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval().requires_grad_(False)


def _same(plain: nn.Module, made: nn.Module, x: Tensor) -> bool:
    """Whether logits and gradients are the same but for rounding, in batches of several sizes."""
    try:
        for n in sorted({min(n, len(x)) for n in (1, 3, 16)}):
            (logits, grad), (other, other_grad) = (_worked(m, x[:n]) for m in (plain, made))
            # A unit at its kink may turn either way: the gradient is compared as a whole.
            apart = float((grad - other_grad).abs().sum())
            if not (_near(logits, other) and apart <= _TURNED * float(grad.abs().sum())):
                return False
    except Exception:  # the user's layers may refuse another layout, or other layers, in any way
        return False
    return len(x) > 0


def _worked(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The logits, and a gradient through all of them (zeros where none reaches x)."""
    x = x.clone().requires_grad_(x.is_floating_point())
    with torch.enable_grad():
        logits = logits_in(module(x))
        if not logits.requires_grad:
            return logits, torch.zeros_like(x)
        pull = torch.linspace(1, 2, logits.shape[1]).to(logits)
        return logits.detach(), torch.autograd.grad((logits * pull).sum(), x)[0]


def _agree(one: nn.Module, other: nn.Module, x: Tensor) -> bool:
    if not len(x):
        return False
    with torch.no_grad():
        return _near(logits_in(one(x)), logits_in(other(x)))


def _near(expected: Tensor, got: Tensor) -> bool:
    near = (expected - got).abs().amax() <= _ROUNDING * expected.abs().amax().clamp_min(1)
    return bool(near)
