"""Interval bounds: exact for one layer, sound through many; what is certified holds."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from buckler.attacks import PGD
from buckler.certify.interval import Interval, around
from buckler.certify.proof import certified_accuracy
from buckler.errors import UsageError
from buckler.models.module import TorchClassifier
from buckler.models.nets import DigitsCNN
from buckler.testing import LinearModel
from buckler.threats import Goal, LpBall

THREAT = LpBall("linf", 0.05)


class Residual(nn.Module):
    """Every supported kind of step at once, batch norm with negative scales among them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.6]).reshape(1, 2, 1, 1))
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True))
        self.branch = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh(), nn.Dropout(0.5))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.LeakyReLU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        out = self.first((x - self.mean) / -0.5)
        add = self.branch(out)
        add += out
        both = torch.cat([self.pool(add), functional.avg_pool2d(1 - 2 * out, 2)], dim=1)
        both = functional.relu(both[:, 2:6]).view(x.size(0), 4, -1).mean(2)
        spread = torch.cat([both, -both, both.sigmoid(), both.flatten(1)], 1)
        logits: Tensor = self.head(spread)
        return logits


def residual(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Residual()
        norm = net.first[1]
        norm.weight.data.normal_()
        norm.bias.data.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return net.eval().double()


def images(n: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 2, 6, 6, generator=generator, dtype=torch.float64)


def linear(k: int = 3, d: int = 5) -> tuple[nn.Linear, Tensor]:
    generator = torch.Generator().manual_seed(3)
    layer = nn.Linear(d, k).double()
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return layer, torch.rand(40, d, generator=generator, dtype=torch.float64)


def test_one_linear_layer_is_exact() -> None:
    """The largest w·x over the ball is w·x + eps·|w|₁; of a difference, eps·|w_j − w_y|₁."""
    layer, x = linear()
    y = torch.arange(len(x)) % 3
    interval, logits = Interval(layer), layer(x)
    low, high = interval.bounds(x - 0.1, x + 0.1)
    reach = 0.1 * layer.weight.abs().sum(1)
    assert torch.allclose(high, logits + reach)
    assert torch.allclose(low, logits - reach)
    apart = 0.1 * (layer.weight[None] - layer.weight[y][:, None]).abs().sum(2)
    expected = logits - logits.gather(1, y[:, None]) + apart
    assert torch.allclose(interval.differences(x - 0.1, x + 0.1, y), expected)


def test_a_linear_classifier_is_certified_exactly_within_its_distance() -> None:
    """Row i's distance to its nearest border in L∞ is known: 0.99 of it holds, 1.01 does not."""
    layer, x = linear()
    y = layer(x).argmax(1)
    logits, apart = layer(x), (layer.weight[None] - layer.weight[y][:, None]).abs().sum(2)
    ratio = (logits.gather(1, y[:, None]) - logits) / apart
    distance = ratio.scatter(1, y[:, None], torch.inf).amin(1).detach()
    wide = (-1e3, 1e3)
    for share, expected in ((0.99, True), (1.01, False)):
        held = certified_accuracy(layer.eval(), x, y, LpBall("linf", share * distance, wide))
        assert held.tolist() == [expected] * len(x)


def test_no_point_of_the_box_leaves_the_bounds() -> None:
    net, x = residual(), images(6)
    low, high = around(x, 0.1, (0.0, 1.0))
    least, most = Interval(net).bounds(low, high)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    worst = Interval(net).differences(low, high, y)
    generator = torch.Generator().manual_seed(5)
    for index in range(300):
        share = torch.rand(x.shape, generator=generator, dtype=torch.float64)
        share = share.round() if index % 2 else share  # corners too
        logits = net(low + share * (high - low))
        assert bool(((logits >= least - 1e-9) & (logits <= most + 1e-9)).all())
        assert bool((logits - logits.gather(1, y[:, None]) <= worst + 1e-9).all())


def test_a_point_has_its_own_logits_as_bounds_and_a_wider_box_wider_ones() -> None:
    net, x = residual(), images(4)
    interval = Interval(net)
    before = interval.bounds(x, x)
    assert torch.allclose(before[0], net(x))
    assert torch.allclose(before[1], net(x))
    for eps in (0.01, 0.05, 0.2):
        low, high = interval.bounds(x - eps, x + eps)
        assert bool(((low < before[0]) & (high > before[1])).all())
        before = low, high


def test_merging_the_last_layer_is_tighter() -> None:
    net, x = residual(), images(8)
    y = net(x).argmax(1)
    interval = Interval(net)
    merged = interval.differences(x - 0.05, x + 0.05, y)
    low, high = interval.bounds(x - 0.05, x + 0.05)
    apart = (high - low.gather(1, y[:, None])).scatter(1, y[:, None], 0.0)
    assert bool((merged <= apart + 1e-12).all())
    assert (apart - merged).amax(1).min().item() > 0.001
    plain = Interval(nn.Sequential(net, nn.Identity())).differences(x - 0.05, x + 0.05, y)
    assert torch.allclose(plain, apart)  # a last layer that is no Linear


def test_gradients_reach_the_modules_own_weights() -> None:
    """Against differences of the bound itself, weight by weight."""
    net, x = residual(), images(3)
    y, interval = torch.tensor([0, 1, 2]), Interval(net)

    def cost() -> Tensor:
        return interval.differences(x - 0.05, x + 0.05, y).logsumexp(1).sum()

    cost().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    for parameter in net.parameters():
        flat = parameter.data.view(-1)
        start, step = float(flat[0]), 1e-6
        flat[0] = start + step
        above = cost().item()
        flat[0] = start - step
        below = cost().item()
        flat[0] = start
        assert parameter.grad is not None
        slope = float(parameter.grad.view(-1)[0])
        assert slope == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-6)


def test_bounds_are_of_eval_mode_and_nothing_is_touched() -> None:
    net, x = residual(), images(4)
    given, state = x.clone(), {k: v.clone() for k, v in net.state_dict().items()}
    expected = Interval(net).bounds(x, x + 0.1)
    net.train()
    drawn = torch.random.get_rng_state()
    got = Interval(net).bounds(x, x + 0.1)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert torch.equal(x, given)
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert torch.equal(drawn, torch.random.get_rng_state())
    assert net.training
    assert vars(net).keys() == vars(Residual()).keys()


def test_constants_made_in_the_forward_stay_out_of_the_model() -> None:
    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.flatten(x, 1) - torch.tensor([0.25, 0.5])

    net = Shifted()
    low, high = Interval(net).bounds(torch.zeros(1, 2), torch.ones(1, 2))
    assert (low.tolist(), high.tolist()) == ([[-0.25, -0.5]], [[0.75, 0.5]])
    assert vars(net).keys() == vars(Shifted()).keys()


def test_a_hook_that_changes_values_is_found_out() -> None:
    layer, x = linear()
    y = layer(x).argmax(1)
    layer.eval().register_forward_hook(lambda m, a, out: 3 * out.flip(1))
    with pytest.raises(UsageError, match="outside of the bounds of its own layers"):
        certified_accuracy(layer, x, y, THREAT)


def test_certifying_asks_for_linf_and_eval_mode() -> None:
    net, x, y = residual(), images(4), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(UsageError, match=r"norm linf\. Got l2"):
        certified_accuracy(net, x, y, LpBall("l2", 0.1))
    with pytest.raises(UsageError, match="training mode"):
        certified_accuracy(net.train(), x, y, THREAT)


def test_what_is_not_known_is_not_certified() -> None:
    layer, x = linear()
    y = layer(x).argmax(1)
    tiny = LpBall("linf", 1e-9, (-9.0, 9.0))
    assert certified_accuracy(layer.eval(), x, y, tiny).all()
    assert not certified_accuracy(layer, x, (y + 1) % 3, tiny).any()  # wrong already
    assert not certified_accuracy(layer, torch.full_like(x, torch.nan), y, tiny).any()
    assert certified_accuracy(layer, x[:0], y[:0], tiny).shape == (0,)
    tie = LinearModel(torch.zeros(3, 5), torch.zeros(3)).double().eval()
    assert not certified_accuracy(tie, x, torch.zeros_like(y), tiny).any()


def test_a_target_that_cannot_be_reached_is_certified() -> None:
    """Logits (x, 0, −9): the attacker moves x over 0, never reaches class 2."""
    model = LinearModel(torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([0.0, 0.0, -9.0])).eval()
    x, y = torch.tensor([[0.5]]), torch.tensor([0])
    box, reach = (-1.0, 1.0), 0.6
    untargeted = LpBall("linf", reach, box)
    assert certified_accuracy(model, x, y, untargeted).tolist() == [False]
    for target, expected in ((1, False), (2, True)):
        threat = untargeted.with_goal(Goal("targeted", torch.tensor([target])))
        assert certified_accuracy(model, x, y, threat).tolist() == [expected]


def test_the_box_counts() -> None:
    """x = 0.1 can fall to 0 only, not to −0.4: the border at −0.05 is out of reach."""
    model = LinearModel(torch.tensor([[1.0], [-1.0]]), torch.tensor([0.05, -0.05])).eval()
    x, y = torch.tensor([[0.1]]), torch.tensor([0])
    assert certified_accuracy(model, x, y, LpBall("linf", 0.5)).tolist() == [True]
    assert certified_accuracy(model, x, y, LpBall("linf", 0.5, (-1.0, 1.0))).tolist() == [False]


def test_a_wrapped_classifier_and_the_digits_net_are_understood() -> None:
    net = DigitsCNN().eval()
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    wrapped, own = (Interval(m).bounds(x, x + 0.1) for m in (TorchClassifier(net), net))
    assert torch.equal(wrapped[0], own[0])
    assert torch.allclose(Interval(net).bounds(x, x)[0], net(x), atol=1e-6)


def test_no_certified_row_falls_to_pgd() -> None:
    """On digits at a radius where some rows are certified, some are broken, and some neither."""
    digits = load_digits()
    x = torch.from_numpy(digits.data).float() / 16
    y = torch.from_numpy(digits.target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    interval = Interval(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(100):
        worst = interval.differences(*around(x[:400], 0.05 * step / 100, (0.0, 1.0)), y[:400])
        optimizer.zero_grad()
        functional.cross_entropy(worst, y[:400]).backward()
        optimizer.step()
    net.eval().requires_grad_(False)
    x, y, threat = x[1500:], y[1500:], LpBall("linf", 0.1)
    held = certified_accuracy(net, x, y, threat)
    x_adv = PGD(steps=50, step_size=0.1, loss="margin")(net, x, y, threat)
    broken = net(x_adv).argmax(1) != y
    assert not bool((held & broken).any())
    assert held.sum() > 20
    assert broken.sum() > 20
