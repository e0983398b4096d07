"""Draws: fixed where a check needs them fixed, and many where noise is tried."""

import threading

import pytest
import torch
from torch import nn

from buckler.assess.battery import Effort, others
from buckler.assess.battery.scene import set_up
from buckler.assess.battery.still import Still
from buckler.assess.target import Target
from buckler.inputs import InputSpec
from buckler.threats import Goal, LpBall

X = torch.linspace(0, 1, 12).reshape(3, 4)
DRAWING = {
    "randn_like": lambda x: x + torch.randn_like(x),
    "rand": lambda x: x + torch.rand(4),
    "randint": lambda x: x + torch.randint(0, 1000, (3, 4)),
    "randperm": lambda x: x[:, torch.randperm(4)] + torch.randperm(99)[:4],
    "bernoulli": lambda x: x + torch.bernoulli(torch.full((3, 40), 0.5)).sum(1, keepdim=True),
    "normal": lambda x: torch.normal(x, 1.0),
    "dropout": lambda x: nn.functional.dropout(x.repeat(1, 20), 0.5, training=True),
    "uniform_": lambda x: x + torch.empty(4).uniform_(),
}


@pytest.mark.parametrize("name", DRAWING)
def test_fixed_draws_come_of_the_seed_alone(name):
    before, model = torch.get_rng_state(), DRAWING[name]
    with torch.random.fork_rng(devices=[]):
        free = [model(X) for _ in range(2)]
    assert not torch.equal(*free)
    first = Still(model, 3)(X)
    assert torch.equal(Still(model, 3)(X), first)
    assert not torch.equal(Still(model, 4)(X), first)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's draws move


def test_fixed_draws_stay_while_another_thread_draws():
    """As when batteries run side by side: the neighbour draws ever more, from torch's own."""
    calls = []

    def model(x):
        calls.append(None)
        other = threading.Thread(target=torch.rand, args=(len(calls),))
        other.start()
        other.join()
        return x + torch.randn_like(x)

    with torch.random.fork_rng(devices=[]):
        assert torch.equal(Still(model, 0)(X), Still(model, 0)(X))


def test_gradients_pass_through_fixed_draws():
    x = X.clone().requires_grad_(True)
    Still(lambda z: z * torch.randn_like(z), 1)(x).sum().backward()
    torch.testing.assert_close(x.grad * X, Still(lambda z: z * torch.randn_like(z), 1)(X))


def scene_of(near, n=6, noise=400):
    """Class 1 once the sum of 4 values is over 2 + near: one row in the middle each."""

    def view(x):
        over = x.flatten(1).sum(1) - 2 - near(x)
        return torch.stack([torch.zeros_like(over), over], 1)

    def answer(x):
        return view(x).argmax(1), torch.ones(len(x), dtype=torch.bool)

    target = Target("line", view, Goal(), answer, InputSpec((4,), ("0", "1")))
    x, y = torch.full((n, 4), 0.5), torch.zeros(n, dtype=torch.int64)
    return set_up(target, x, y, LpBall("linf", 0.1), Effort(noise=noise), 0, None)


def test_noise_finds_what_is_likely_and_draws_no_further_where_a_win_is_far():
    """Sum of four uniforms in ±0.1: over 0.2 with probability 1 / 4!, and never over 0.4."""
    everywhere, asked = torch.ones(6, dtype=torch.bool), []

    def counted(near):
        return lambda x: asked.append(len(x)) or near

    assert others._noise(scene_of(counted(0.2)), everywhere).rows.all()
    for near, draws in ((0.41, 400), (1.5, 50)):
        scene = scene_of(counted(near))
        asked.clear()
        assert not others._noise(scene, everywhere).rows.any()
        assert sum(asked) == 6 * draws
    assert not others._noise(scene, ~everywhere).rows.any()


def test_rare_wins_are_looked_for_to_the_last_draw():
    """P(sum > 0.36) = (0.04 / 0.2)⁴ / 4! = 1 / 15,000: one row in four, in 4,000 draws."""
    rare = scene_of(lambda x: 0.36, n=40, noise=4000)
    count = int(others._noise(rare, torch.ones(40, dtype=torch.bool)).rows.sum())
    assert 3 <= count <= 18  # mean 9.4; outside in one of 600 such tests
