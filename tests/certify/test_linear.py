"""Linear bounds: exact where the net is affine, sound through many layers, never past the exact
minimum, tighter than intervals."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from buckler.attacks import PGD, Strong
from buckler.certify.interval import Interval
from buckler.certify.linear import Crown, Inner
from buckler.certify.proof import certificates, certified_accuracy
from buckler.errors import UsageError
from buckler.threats import LpBall

from .test_interval import images, linear, residual

INNERS: tuple[Inner, ...] = ("interval", "linear", "both")


def small(seed: int, sizes: tuple[int, ...] = (4, 8, 8, 3)) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layer = nn.Linear(before, after).double()
        layer.weight.data = torch.randn(after, before, generator=generator, dtype=torch.float64)
        layer.weight.data /= before**0.5
        layer.bias.data = 0.3 * torch.randn(after, generator=generator, dtype=torch.float64)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval().requires_grad_(False)


def least_margin(net: nn.Sequential, low: Tensor, high: Tensor, one: int, other: int) -> float:
    """The exact minimum of z_one − z_other over the box, by a mixed-integer program: a ReLU is off
    or on."""
    weights = [layer for layer in net if isinstance(layer, nn.Linear)]
    bounds = [Interval(net[: 2 * i + 1]).bounds(low, high) for i in range(len(weights))]
    # Variables: inputs, then for each ReLU layer its values and its switches.
    hidden = [len(layer.bias) for layer in weights[:-1]]
    count = len(low[0]) + 2 * sum(hidden)
    lowest, highest = np.full(count, -np.inf), np.full(count, np.inf)
    lowest[: low.shape[1]], highest[: low.shape[1]] = low[0].numpy(), high[0].numpy()
    whole, rows, limits = np.zeros(count), [], []
    start, here = low.shape[1], slice(0, low.shape[1])
    for layer, (down, up) in zip(weights[:-1], bounds, strict=False):
        size = len(layer.bias)
        values, switches = slice(start, start + size), slice(start + size, start + 2 * size)
        lowest[values], lowest[switches], highest[switches], whole[switches] = 0, 0, 1, 1
        for unit in range(size):
            sums = np.zeros(count)
            sums[here] = layer.weight[unit].numpy()
            bias, most, least = float(layer.bias[unit]), float(up[0, unit]), float(down[0, unit])
            value = np.eye(count)[values.start + unit]
            switch = np.eye(count)[switches.start + unit]
            rows += [sums - value, value - sums - least * switch, value - max(most, 0) * switch]
            limits += [-bias, bias - least, 0.0]
        start, here = start + 2 * size, values
    aim = np.zeros(count)
    last = weights[-1]
    aim[here] = (last.weight[one] - last.weight[other]).numpy()
    solved = milp(
        aim,
        constraints=LinearConstraint(np.array(rows), ub=np.array(limits)),
        bounds=Bounds(lowest, highest),
        integrality=whole,
    )
    assert solved.success
    return float(solved.fun + last.bias[one] - last.bias[other])


@pytest.mark.parametrize("seed", range(1, 7))
def test_never_past_the_exact_minimum_and_tighter_than_intervals(seed: int) -> None:
    net = small(seed)
    middle = torch.rand(1, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    low, high, y = middle - 0.3, middle + 0.3, torch.tensor([0])
    exact = [-least_margin(net, low, high, 0, other) for other in (1, 2)]
    by = {inner: Crown(net, inner).differences(low, high, y)[0, 1:] for inner in INNERS}
    intervals = Interval(net).differences(low, high, y)[0, 1:]
    for found in (*by.values(), intervals):
        assert bool((found >= torch.tensor(exact) - 1e-9).all())
    assert bool((by["both"] <= intervals).all())
    slack = {name: float((found - torch.tensor(exact)).sum()) for name, found in by.items()}
    assert slack["both"] <= slack["interval"] + 1e-9
    assert slack["both"] < 0.9 * float((intervals - torch.tensor(exact)).sum())


@pytest.mark.parametrize("inner", INNERS)
def test_an_affine_net_is_exact(inner: Inner) -> None:
    layer, x = linear()
    net = nn.Sequential(layer).eval()
    wanted = Interval(layer).bounds(x - 0.2, x + 0.2)
    found = Crown(net, inner).bounds(x - 0.2, x + 0.2)
    for one, other in zip(wanted, found, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_where_no_relu_crosses_zero_many_layers_are_exact() -> None:
    """Intervals forget that units rise together; linear functions do not."""
    net = small(3)
    for layer in net:
        if isinstance(layer, nn.Linear):
            layer.bias.data += 50 * layer.weight.data.abs().sum(1)
    x = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low, high = x - 0.1, x + 0.1
    least, most = Crown(net).bounds(low, high)
    jacobian = net[4].weight @ net[2].weight @ net[0].weight
    reach = 0.1 * jacobian.abs().sum(1)
    assert torch.allclose(least, net(x) - reach, atol=1e-9)
    assert torch.allclose(most, net(x) + reach, atol=1e-9)
    wide = Interval(net).bounds(low, high)[1]
    assert bool((most < wide - 1e-3).all())


@pytest.mark.parametrize("inner", INNERS)
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.1, 0.5])
def test_no_point_of_the_box_leaves_the_bounds(inner: Inner, eps: float) -> None:
    """A residual net with batch norm, pooling, concatenation, in-place sums, tanh and max."""
    net, x = residual().requires_grad_(False), images(6)
    low, high = Crown(net, inner).bounds(x - eps, x + eps)
    generator = torch.Generator().manual_seed(7)
    for sharp in (False, True):
        for _ in range(150):
            step = 2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1
            logits = net(x + eps * (step.sign() if sharp else step))
            assert bool(((logits >= low - 1e-9) & (logits <= high + 1e-9)).all())
    y = torch.arange(6) % 3
    apart = net(x) - net(x).gather(1, y[:, None])
    assert bool((Crown(net, inner).differences(x - eps, x + eps, y) >= apart - 1e-9).all())


def test_a_row_does_not_depend_on_who_shares_the_batch() -> None:
    net, x = residual().requires_grad_(False), images(5)
    y = torch.arange(5) % 3
    together = Crown(net).differences(x - 0.05, x + 0.05, y)
    alone = [
        Crown(net).differences(x[row] - 0.05, x[row] + 0.05, y[row])
        for row in torch.arange(5).split(1)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-12)


def test_certified_rows_hold_and_tighter_bounds_certify_more() -> None:
    nets = [small(seed) for seed in range(4)]
    generator = torch.Generator().manual_seed(0)
    threat, totals = LpBall("linf", 0.3), {"interval": 0, "crown-ibp": 0, "crown": 0}
    for net in nets:
        x = torch.rand(60, 4, generator=generator, dtype=torch.float64)
        y = net(x).argmax(1)
        held = {m: certified_accuracy(net, x, y, threat, m) for m in totals}
        broken = net(PGD(steps=40, step_size=0.1, loss="margin")(net, x, y, threat)).argmax(1) != y
        assert not bool((held["crown"] & broken).any())
        assert bool((held["interval"] <= held["crown-ibp"]).all())
        assert bool((held["crown-ibp"] <= held["crown"]).all())
        for method, rows in held.items():
            totals[method] += int(rows.sum())
    assert totals["interval"] < totals["crown-ibp"] < totals["crown"]


def test_certified_rows_survive_the_strongest_attack() -> None:
    threat, proved, broken = LpBall("linf", 0.4), 0, 0
    for seed in range(4, 8):  # nets that are no constants
        net = small(seed)
        x = torch.rand(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        y = net(x).argmax(1)
        held = certified_accuracy(net, x, y, threat, "crown")
        fooled = net(Strong()(net, x, y, threat)).argmax(1) != y
        assert not bool((held & fooled).any())
        proved, broken = proved + int(held.sum()), broken + int(fooled.sum())
    assert proved >= 5
    assert broken >= 5, "an attack that breaks nothing would show nothing"


def test_training_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="eval mode"):
        Crown(small(0).train())


def test_certificates_are_of_the_models_own_answers() -> None:
    threat, proved = LpBall("linf", 0.3), []
    for seed in range(4):
        net = small(seed)
        x = torch.rand(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        found = certificates(net, x, threat, "crown")
        answers = net(x).argmax(1)
        held = certified_accuracy(net, x, answers, threat, "crown")
        assert [c.label for c in found] == [
            int(label) if ok else None for label, ok in zip(answers, held, strict=True)
        ]
        proved += [c for c in found if not c.abstained]
        assert certificates(net, x[:0], threat) == []
    assert 0 < len(proved) < 80
    assert str(proved[0]) == (
        f"the model answers {proved[0].label} for every input within L∞ distance 0.3 inside "
        "[0, 1], proved by crown bounds"
    )
