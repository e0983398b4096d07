"""The battery: right about an honest net and about three that mask their gradients."""

import pytest
import torch
from torch import nn

from buckler.assess import battery, of_model
from buckler.threats import LpBall

THREAT = LpBall("linf", 0.2)


class Scaled(nn.Module):
    """Logits × 30: float32 cross entropy saturates and its gradient dies."""

    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x):
        return self.net(x) * self.factor


class Rounded(nn.Module):
    """Inputs rounded to 3 bits: the gradient is zero everywhere."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net((x * 7).round() / 7)


class Noisy(nn.Module):
    """Fresh noise at each call."""

    def __init__(self, net):
        super().__init__()
        self.net, self.generator = net, torch.Generator().manual_seed(0)

    def forward(self, x):
        return self.net(x + 0.1 * torch.randn(x.shape, generator=self.generator))


def look(net, dataset):
    x, y = dataset["test"].x, dataset["test"].y
    return battery(of_model(net.eval(), dataset.spec, x), x, y, THREAT, queries=200)


def mark(found, name):
    return next(sign.mark for sign in found.signs if sign.name == name)


def test_a_plain_net_passes(trained, dataset):
    found = look(trained, dataset)
    assert found.believable, found
    assert found.sentence == "No sign of masked gradients."
    assert {sign.mark for sign in found.signs} == {"pass"}


def test_large_logits_fail(trained, dataset):
    found = look(Scaled(trained, 30 * 10), dataset)
    assert not found.believable
    assert mark(found, "zero gradients") == "fail" or mark(
        found, "cross entropy against margin"
    ) == "fail"  # fmt: skip
    assert found.sentence.startswith("Do not believe this evaluation")


def test_rounded_inputs_fail(trained, dataset):
    found = look(Rounded(trained), dataset)
    assert not found.believable
    assert mark(found, "zero gradients") == "fail"
    assert mark(found, "Square beats PGD") == "fail"
    assert mark(found, "unbounded attack") == "fail"


def test_noise_asks_for_eot(trained, dataset):
    found = look(Noisy(trained), dataset)
    assert found.random
    assert mark(found, "randomness") == "warn"


def test_a_cut_graph_fails(trained, dataset):
    class Cut(nn.Module):
        def forward(self, x):
            return trained(x.detach())

    found = look(Cut(), dataset)
    assert not found.believable
    assert found.to_dict()["believable"] is False


@pytest.mark.parametrize("factor", [1e-3, 1.0])
def test_small_gradients_alone_are_no_sign(trained, dataset, factor):
    """The naive test (mean gradient norm under 0.01) would call the first one masked."""
    assert look(Scaled(trained, factor), dataset).believable
