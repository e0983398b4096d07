"""tuned: the same logits and gradients, to rounding; Counted: exact counts."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from buckler import draws
from buckler.attacks import PGD
from buckler.errors import BudgetError
from buckler.models import Counted, tuned
from buckler.models.input_conv import InputConv, fits
from buckler.models.nets import digits_cnn
from buckler.threats import LpBall


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(4))
        self.inner = nn.ModuleList(nn.Conv2d(16, 16, 3, 1, 1, bias=False) for _ in range(3))
        self.last = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norms[0](self.first(x)))
        for norm, part in zip(self.norms[1:], self.inner, strict=False):
            x = x + torch.relu(norm(part(x)))
        return self.last(x.mean((2, 3)))


def residual(channels: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Residual(channels).double()
        for norm in net.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.data.uniform_(0.5, 2)
    return net.eval()


def inputs(n: int, shape: tuple[int, ...]) -> torch.Tensor:
    return draws.uniform(0, torch.arange(n), 0, shape).double()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 20])
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_and_gradients_are_the_same(n: int, channels: int) -> None:
    net = residual(channels)
    x = inputs(n, (channels, 9, 12))
    fast = tuned(net, x)
    results = []
    for model in (net, fast):
        z = x.clone().requires_grad_(True)
        logits = model(z)
        results.append((logits.detach(), torch.autograd.grad(logits[:, 1].exp().sum(), z)[0]))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-9, atol=1e-9)


def test_batch_norms_are_folded_and_the_original_is_left_alone() -> None:
    net = residual()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    fast = tuned(net, inputs(4, (3, 8, 8)))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fast.modules())
    assert sum(isinstance(part, InputConv) for part in fast.modules()) == 1
    assert sum(isinstance(part, nn.BatchNorm2d) for part in net.modules()) == 4
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not any(p.requires_grad for p in fast.parameters())
    assert all(p.requires_grad for p in net.parameters())


def test_a_net_that_cannot_be_traced_stays_as_it_is() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.last = nn.BatchNorm2d(1), nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.norm(x).flatten(1) * (2 if x.sum() > 0 else 1))

    net = Branches().eval()
    x = inputs(3, (1, 4, 4)).float()
    torch.testing.assert_close(tuned(net, x)(x), net(x))


def test_other_shapes_and_kinds() -> None:
    line = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double().eval()
    x = inputs(5, (6,))
    torch.testing.assert_close(tuned(line, x)(x), line(x))
    digits = digits_cnn().double().eval()
    x = inputs(5, (1, 8, 8))
    torch.testing.assert_close(tuned(digits, x)(x), digits(x))
    assert tuned(digits, x)(x[:0]).shape == (0, 10)


@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
@pytest.mark.parametrize("padding", [0, 1, (2, 1)])
@pytest.mark.parametrize("kernel", [1, 3, (4, 2)])
def test_the_input_convolution_has_the_usual_gradient(stride, padding, kernel) -> None:
    part = nn.Conv2d(3, 5, kernel, stride, padding).double().requires_grad_(False)
    assert fits(part)
    x = inputs(2, (3, 9, 8)).requires_grad_(True)
    out, expected = InputConv(part)(x), part(x)
    torch.testing.assert_close(out, expected)
    pull = draws.normal(0, torch.arange(2), 3, tuple(out.shape[1:])).double()
    got = torch.autograd.grad((out * pull).sum(), x)[0]
    torch.testing.assert_close(got, torch.autograd.grad((expected * pull).sum(), x)[0])


@pytest.mark.parametrize(
    "part",
    [
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(1, 1, 3, dilation=2),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Linear(2, 2),
    ],
)
def test_other_convolutions_are_left_as_they_are(part: nn.Module) -> None:
    assert not fits(part)


def test_counts_are_exact() -> None:
    model = Counted(nn.Linear(4, 3))
    x = torch.rand(5, 4)
    with torch.no_grad():
        model(x)
    assert (model.forwards, model.backwards) == (5, 0)
    z = x.requires_grad_(True)
    torch.autograd.grad(model(z).sum(), z)
    assert (model.forwards, model.backwards) == (10, 5)


def test_an_attack_is_counted_row_by_row() -> None:
    """Rows that cannot be won cost steps + 1 forwards and `steps` backwards each; won ones less."""
    constant = Counted(lambda x: 0 * x[:, :2] + torch.tensor([1.0, 0.0]))
    PGD(steps=7)(constant, torch.rand(300, 3), torch.zeros(300).long(), LpBall("linf", 0.1))
    assert (constant.forwards, constant.backwards) == (300 * 8, 300 * 7)
    won = Counted(lambda x: 0 * x[:, :2] + torch.tensor([0.0, 1.0]))
    PGD(steps=7)(won, torch.rand(300, 3), torch.zeros(300).long(), LpBall("linf", 0.1))
    assert (won.forwards, won.backwards) == (300, 300)


def test_a_spent_budget_is_refused_before_it_is_passed() -> None:
    asked = []
    model = Counted(lambda x: asked.append(len(x)) or torch.zeros(len(x), 2), limit=7)
    model(torch.zeros(4, 1))
    with pytest.raises(
        BudgetError, match=r"budget of 7 queries is spent: 4 were asked, and 4 more"
    ):
        model(torch.zeros(4, 1))
    model(torch.zeros(3, 1))
    assert asked == [4, 3]


def test_counts_and_limits_hold_with_several_threads() -> None:
    model = Counted(lambda x: torch.zeros(len(x), 2), limit=1000)

    def ask(_: int) -> int:
        try:
            model(torch.zeros(1, 1))
        except BudgetError:
            return 1
        return 0

    with ThreadPoolExecutor(8) as pool:
        refused = sum(pool.map(ask, range(1500)))
    assert (model.forwards, refused) == (1000, 500)


class Odd(nn.Module):
    """A convolution, a batch norm and a linear layer, put together in unusual ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv, self.norm = nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3)
        self.norm.running_mean.uniform_()
        self.norm.running_var.uniform_(0.5, 2)
        self.last = nn.Linear(108, 4)
        if way == "no statistics":
            self.norm = nn.BatchNorm2d(3, track_running_stats=False)
        if way == "parametrized":
            nn.utils.parametrizations.weight_norm(self.conv)
        if way == "old spectral norm":
            nn.utils.spectral_norm(self.conv)
        if way == "hook":
            self.conv.register_forward_hook(lambda _, inputs, out: 2 * out)
        if way == "hook before":
            self.conv.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))
        if way == "own forward":
            self.conv = Standardised(3, 3, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "own forward" and x.sum() < 0:  # cannot be traced
            return self.last(x.flatten(1))
        if self.way == "batch":
            x = x - x.mean(0)
        out = self.conv(input=x) if self.way == "keyword" else self.conv(x)
        if self.way == "weight":
            out = out * self.conv.weight.sum()
        if self.way == "shared":
            out = self.norm(self.conv(self.norm(out)))
        if self.way not in ("hook before", "keyword"):
            out = self.norm(out)
        return self.last(out.flatten(1))


class Standardised(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, 9 * weight, self.bias, self.stride, self.padding)


WAYS = ["no statistics", "parametrized", "old spectral norm", "hook", "hook before", "own forward"]
WAYS += ["batch", "keyword", "weight", "shared"]


def check_tuned(net: nn.Module, x: torch.Tensor) -> None:
    fast = tuned(net, x)
    for n in (1, 3, 5, len(x)):
        results = []
        for model in (net, fast):
            z = x[:n].clone().requires_grad_(True)
            logits = model(z)
            grad = torch.autograd.grad((logits * torch.arange(1, 5)).sum(), z)[0]
            results.append((logits.detach(), grad))
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_unusual_modules_keep_their_logits_and_gradients(way: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        check_tuned(Odd(way).eval(), inputs(20, (3, 6, 6)).float())


def test_scripted_modules() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 4)).eval()
    check_tuned(torch.jit.script(plain), inputs(20, (3, 6, 6)).float())


def test_a_deep_net_that_views_its_features() -> None:
    """`view` refuses a channels-last tensor."""

    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Conv2d(8 if i else 3, 8, 3, 1, 1) for i in range(5)]
            self.layers, self.last = nn.Sequential(*layers), nn.Linear(8 * 36, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.layers(x).view(x.shape[0], -1))

    check_tuned(Views().eval(), inputs(20, (3, 6, 6)).float())
