"""The rule of each layer: its box holds what the layer makes of the box; the rest is refused."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from buckler.certify.interval import Interval
from buckler.errors import UsageError


class Calls(nn.Module):
    """A forward given as a function."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


PARTS = {
    "convolution in groups": nn.Conv2d(2, 4, 3, stride=2, dilation=2, padding=1, groups=2),
    "padding reflected": nn.Conv2d(2, 3, 3, padding="same", padding_mode="reflect"),
    "convolution 1d": nn.Sequential(nn.Flatten(2), nn.Conv1d(2, 3, 4, 2), nn.BatchNorm1d(3)),
    "no bias": nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3, affine=False)),
    "average pooling": nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.AdaptiveAvgPool2d(2)),
    "largest pooling": nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.AdaptiveMaxPool2d(2)),
    "smooth": nn.Sequential(nn.ELU(), nn.Softplus(), nn.Sigmoid(), nn.Identity(), nn.Dropout2d()),
    "in place": nn.Sequential(nn.ReLU(True), nn.LeakyReLU(0.2, True), nn.Hardtanh(inplace=True)),
    "pooling called": Calls(lambda x: functional.max_pool2d(x, 2) - functional.avg_pool2d(x, 2)),
    "dropout called": Calls(lambda x: functional.dropout(x.relu(), 0.5, training=True)),
    "sizes asked": Calls(lambda x: x.reshape(x.shape[0], -1, x.size(3)).transpose(1, 2)),
    "constants": Calls(lambda x: (0.2 - x) / torch.tensor([2.0, -3.0]).reshape(2, 1, 1) * -1.5),
    "slices": Calls(lambda x: torch.stack([x[:, 0], -x[:, 1]]).sum(0).clamp(-0.1, 0.3)),
}


@pytest.mark.parametrize("name", PARTS)
def test_each_supported_part_is_bounded(name: str) -> None:
    """Points of the box stay inside; one point is its own bounds; nothing given is changed."""
    part, generator = copy.deepcopy(PARTS[name]).eval(), torch.Generator().manual_seed(0)
    for parameter in part.parameters():  # batch norms get negative scales too
        parameter.data = torch.randn(parameter.shape, generator=generator)
    x = torch.randn(3, 2, 6, 6, generator=generator)
    given, interval = x.clone(), Interval(part)
    low, high = interval.bounds(x, x + 0.5)
    assert torch.equal(x, given)
    run = torch.relu if name == "dropout called" else part
    assert torch.allclose(interval.bounds(x, x)[0], run(x.clone()), atol=1e-6)
    for index in range(50):
        share = torch.rand(x.shape, generator=generator)
        point = x + 0.5 * (share.round() if index % 2 else share)
        out = run(point)
        assert bool(((out >= low - 1e-5) & (out <= high + 1e-5)).all())


class MyLinear(nn.Linear):
    """May do anything else than Linear."""


def _kept(x: Tensor) -> Tensor:
    return functional.relu(x, inplace=True) + x


NETS = [
    (nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.SiLU())), r"'1.0' \(SiLU\) has no interval"),
    (nn.Sequential(nn.GELU()), r"'0' \(GELU\)"),
    (nn.Sequential(nn.LayerNorm(4)), r"'0' \(LayerNorm\)"),
    (nn.Sequential(nn.LeakyReLU(-0.1)), r"'0' \(LeakyReLU\)"),
    (nn.Sequential(nn.ELU(-1.0)), r"'0' \(ELU\)"),
    (nn.Sequential(nn.PReLU()), r"'0' \(PReLU\)"),
    (Calls(torch.exp), "'exp'"),
    (Calls(lambda x: x.abs()), "'abs'"),
    (Calls(lambda x: x * x), "'mul' multiplies two values that both depend"),
    (Calls(lambda x: 1 / x), "'truediv' divides by a value that depends"),
    (Calls(lambda x: torch.add(x, x, alpha=-1)), "'add'"),
    (Calls(lambda x: x.softmax(1)), "'softmax'"),
    (Calls(_kept), "'relu' changes in place what other layers read too"),
    (nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)), "with running statistics"),
    (Calls(lambda x: x if x.sum() > 0 else -x), "torch.fx can trace. Got Calls"),
    (Calls(lambda x: (x, x)), "one tensor of logits"),
    (torch.sum, "need an nn.Module"),
]


@pytest.mark.parametrize(("net", "message"), NETS, ids=[message[:24] for _, message in NETS])
def test_what_has_no_bounds_is_refused_by_name(net: nn.Module, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Interval(net).bounds(torch.zeros(2, 4), torch.ones(2, 4))


def test_a_layer_derived_from_a_known_one_is_read_as_it_is_written() -> None:
    with pytest.raises(UsageError, match="'linear' has no interval bounds"):
        Interval(nn.Sequential(MyLinear(4, 2))).bounds(torch.zeros(2, 4), torch.ones(2, 4))
