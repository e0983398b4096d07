"""The harness: what is counted, what is judged, what is divided by what."""

import math

import pytest
import torch
from torch import Tensor, nn

from benchmarks import attack_timing as timing
from buckler.testing import LinearModel


@pytest.fixture
def net() -> nn.Module:
    """Two classes on two values: class 1 where x0 > 0.5."""
    return LinearModel(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0.0, -0.5]))


def to(value: float) -> timing.Attacker:
    def attack(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        return torch.cat([torch.full_like(x[:, :1], value), x[:, 1:]], 1)

    return attack


def test_rows_forward_and_back_are_counted_apart(net: nn.Module) -> None:
    def attack(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        with torch.no_grad():
            net(x[:2])
        z = x.clone().requires_grad_(True)
        torch.autograd.grad(net(z).sum(), z)
        return z.detach()

    counted = timing.counts(attack, net, torch.rand(7, 2), torch.zeros(7).long(), batch=4)
    assert (counted.forwards, counted.backwards) == (7 + 2 + 2, 7)
    assert counted.calls == [(2, False), (4, True), (2, False), (3, True)]


def test_each_class_gradient_of_one_forward_is_a_backward(net: nn.Module) -> None:
    def attack(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        z = x.clone().requires_grad_(True)
        logits = net(z)
        for label in range(2):
            torch.autograd.grad(logits[:, label].sum(), z, retain_graph=True)
        return x

    counted = timing.counts(attack, net, torch.rand(5, 2), torch.zeros(5).long(), batch=5)
    assert (counted.forwards, counted.backwards) == (5, 10)


def test_a_forward_without_an_input_gradient_is_no_step_of_the_floor() -> None:
    counted = timing.Counted(nn.Linear(2, 2))  # its parameters ask for gradients, x does not
    counted(torch.rand(3, 2))
    assert counted.calls == [(3, False)]


def test_success_needs_the_ball_the_box_and_a_wrong_answer(net: nn.Module) -> None:
    x = torch.tensor([[0.4, 0.0]] * 6)
    y = torch.zeros(6).long()
    points = [[0.55, 0.0], [0.45, 0.0], [0.7, 0.0], [0.55, -0.01], [math.nan, 0.0], [0.55, 0.2]]
    outcome = timing.judge(net, x, y, torch.tensor(points), "linf", 0.2)
    assert outcome.won.tolist() == [True, False, False, False, False, True]
    assert outcome.outside == 3
    assert outcome.success == pytest.approx(2 / 6)
    assert outcome.median == math.inf


def test_without_a_radius_any_distance_counts_and_losers_lie_at_infinity(net: nn.Module) -> None:
    x, y = torch.tensor([[0.4, 0.0]] * 3), torch.zeros(3).long()
    points = torch.tensor([[0.6, 0.0], [0.9, 0.0], [0.4, 0.9]])
    outcome = timing.judge(net, x, y, points, "l2", None)
    assert outcome.median == pytest.approx(0.5)
    assert outcome.won.tolist() == [True, True, False]


def test_distances_of_a_known_change() -> None:
    x = torch.zeros(1, 3, 2, 2)
    x_adv = x.clone()
    x_adv[0, :, 0, 1] = torch.tensor([0.3, 0.4, 0.0])
    expected = {"linf": 0.4, "l2": 0.5, "l1": 0.7, "l0": 2.0, "pixels": 1.0}
    found = {norm: float(timing.distance(x, x_adv, norm)) for norm in expected}
    assert found == pytest.approx(expected)


def test_everyone_runs_once_a_seed_in_turn_with_the_same_rows(net: nn.Module) -> None:
    order: list[tuple[str, int, float]] = []

    def named(name: str) -> timing.Attacker:
        def attack(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
            order.append((name, seed, float(torch.rand(()))))
            return x

        return attack

    rows = [(torch.rand(3, 2), torch.zeros(3).long()) for _ in range(2)]
    runs = timing.interleaved({"a": named("a"), "b": named("b")}, net, rows, batch=8)
    assert [entry[:2] for entry in order] == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert order[0][2] == order[1][2], "the global seed must be the same for each of them"
    assert len(runs["a"].seconds) == 2
    assert torch.equal(runs["b"].points[1], rows[1][0])


def test_ratios_are_of_paired_runs() -> None:
    assert timing.ratios([1.0, 2.0, 4.0], [3.0, 4.0, 20.0]) == (3.0, 2.0, 5.0)


def test_the_floor_replays_the_calls(net: nn.Module) -> None:
    counted = timing.Counted(net)
    seconds = timing.floor_seconds(
        counted, torch.rand(5, 2), torch.zeros(5).long(), [(5, True), (2, False), (3, True)]
    )
    assert seconds >= 0
    assert (counted.forwards, counted.backwards) == (10, 8)
    assert counted.calls == [(5, True), (2, False), (3, True)]


def test_an_attack_that_only_steps_lies_on_its_floor(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(timing, "clock", lambda: float(next(ticks)))
    found = timing.over_floor(to(0.6), net, torch.rand(4, 2), torch.zeros(4).long(), 4, repeats=3)
    assert found == (1.0, 1.0)
