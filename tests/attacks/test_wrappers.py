"""Wrappers that make a system attackable: EOT over its draws, BPDA through its transforms."""

import math

import pytest
import torch
from torch import Tensor

from buckler.attacks.apgd import APGD
from buckler.attacks.bpda import BPDA
from buckler.attacks.eot import EOT, Randomised, confirm, draws_each_row
from buckler.attacks.pgd import PGD
from buckler.errors import UsageError
from buckler.threats import Goal, LpBall

UP = torch.tensor([[0.0, 0.0], [0.0, 1.0]])  # class 1 rises with the second value


class Drawn:
    """A model of two classes whose slope is drawn afresh: for each row, or once a call."""

    def __init__(self, each_row: bool) -> None:
        self.generator, self.each_row, self.calls = torch.Generator().manual_seed(0), each_row, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        n = len(x) if self.each_row else 1
        slope = 1 + 3 * torch.randn(n, 1, generator=self.generator)
        up = (slope * (x - 0.6)).sum(1)
        return torch.stack([torch.zeros_like(up), up], 1)


def test_a_mean_of_many_draws_comes_near_the_expectation() -> None:
    x = torch.linspace(0, 1, 12).reshape(4, 3)
    exact = (x - 0.6).sum(1)
    for model in (Randomised(Drawn(True), 400, together=True), Randomised(Drawn(False), 400)):
        slack = 4 * 3 / math.sqrt(400) * exact.abs().max()  # four standard errors: 1 in 16,000
        assert bool(((model(x)[:, 1] - exact).abs() < slack).all())


def test_together_asks_once_and_apart_asks_each_draw() -> None:
    rows, single = Drawn(True), Drawn(False)
    assert Randomised(rows, 7, together=True)(torch.rand(5, 3)).shape == (5, 2)
    assert Randomised(single, 7)(torch.rand(5, 3)).shape == (5, 2)
    assert (rows.calls, single.calls) == (1, 7)
    assert Randomised(Drawn(True), 7, together=True)(torch.rand(0, 3)).shape == (0, 2)


def test_which_models_may_be_asked_together() -> None:
    x = torch.rand(3, 4)
    assert draws_each_row(Drawn(True), x)
    assert not draws_each_row(Drawn(False), x)
    assert not draws_each_row(lambda z: z[:, :2], x)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_climbs_the_mean_of_a_model_whose_single_draws_mislead(loss: str, norm: str) -> None:
    """AutoAttack's `rand`: APGD-CE and APGD-DLR with 20 draws a step. One draw in three points the
    wrong way; the mean wins only at the far side of the ball."""
    x, y = torch.full((12, 30), 0.59), torch.zeros(12, dtype=torch.int64)
    threat = LpBall(norm, 0.05 if norm == "linf" else 0.05 * math.sqrt(30))
    model = Drawn(True)
    view = Randomised(model, 20, together=True)
    x_adv = APGD(steps=20, loss=loss)(view, x, y, threat, seed=1)
    assert bool(threat.contains(x, x_adv).all())
    rate = confirm(model, x_adv, y, threat.goal, 200)
    assert float(rate.mean()) > 0.5 > float(confirm(model, x, y, threat.goal, 200).mean())


def test_confirm_counts_fresh_wins_row_by_row() -> None:
    """A row that wins one draw in four, one that always wins, one that never does."""
    coin = torch.Generator().manual_seed(3)

    def model(x: Tensor) -> Tensor:
        heads = torch.rand(len(x), generator=coin)
        return torch.stack([heads, x[:, 0]], 1)

    x, y = torch.tensor([[0.25], [2.0], [-1.0]]), torch.zeros(3, dtype=torch.int64)
    rate = confirm(model, x, y, Goal(), 400)
    assert rate[1:].tolist() == [1, 0]
    assert abs(float(rate[0]) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 400)
    other = confirm(model, x, y, Goal("targeted", torch.tensor([1, 0, 0])), 50)
    assert other[1:].tolist() == [0, 1]


def test_draws_must_be_at_least_one() -> None:
    with pytest.raises(UsageError, match=r"Randomised needs draws >= 1\. Got 0"):
        Randomised(UP.__matmul__, 0)
    with pytest.raises(UsageError, match=r"confirm needs draws >= 1\. Got 0"):
        confirm(lambda x: x, torch.ones(1, 2), torch.tensor([0]), Goal(), 0)


def steps_of_a_quarter(x: Tensor) -> Tensor:
    return (x * 4).round() / 4


def up(x: Tensor) -> Tensor:
    return x @ UP - torch.tensor([0.0, 0.6])


def test_bpda_answers_as_deployed_and_has_the_surrogates_gradient() -> None:
    x = torch.rand(6, 2, generator=torch.Generator().manual_seed(0))
    for surrogate, slope in ((None, 1.0), (lambda z: 3 * z, 3.0)):
        view = BPDA(up, steps_of_a_quarter, surrogate)
        z = x.clone().requires_grad_(True)
        out = view(z)
        assert torch.equal(out, up(steps_of_a_quarter(x)))
        assert torch.equal(view(x), out)
        grad = torch.autograd.grad(out[:, 1].sum(), z)[0]
        assert torch.equal(grad, torch.tensor([[0.0, slope]]).expand(6, 2))


def test_bpda_breaks_what_a_gradient_through_the_transform_cannot() -> None:
    x, y = torch.full((4, 2), 0.45), torch.zeros(4, dtype=torch.int64)
    threat = LpBall("linf", 0.3)

    def deployed(x: Tensor) -> Tensor:
        return up(steps_of_a_quarter(x))

    masked = PGD(loss="margin")(deployed, x, y, threat)
    assert torch.equal(deployed(masked).argmax(1), y), "rounding has no gradient: x stays"
    x_adv = PGD(loss="margin")(BPDA(up, steps_of_a_quarter), x, y, threat)
    assert bool((deployed(x_adv).argmax(1) == 1).all())
    assert bool(threat.contains(x, x_adv).all())


def test_bpda_in_stages_and_in_draws() -> None:
    x = torch.rand(3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    staged = BPDA(BPDA(up, torch.floor), steps_of_a_quarter)
    assert torch.equal(staged(x), up(torch.floor(steps_of_a_quarter(x))))
    grad = torch.autograd.grad(staged(x)[:, 1].sum(), x)[0]
    assert torch.equal(grad, torch.tensor([[0.0, 1.0]]).expand(3, 2))
    mean = EOT((staged, BPDA(up, steps_of_a_quarter)))
    assert torch.autograd.grad(mean(x).sum(), x)[0].abs().sum() > 0


def test_bpda_takes_a_transform_outside_torch() -> None:
    def numpy_step(x: Tensor) -> Tensor:
        return torch.from_numpy((x.numpy() * 4).round() / 4)

    x = torch.full((2, 2), 0.45, requires_grad=True)
    assert torch.autograd.grad(BPDA(up, numpy_step)(x).sum(), x)[0].abs().sum() > 0


def test_bpda_refuses_a_surrogate_of_another_shape() -> None:
    x = torch.rand(2, 4, requires_grad=True)
    with pytest.raises(UsageError, match=r"\(2, 2\) torch.float32\. Got the input with \(2, 4\)"):
        BPDA(up, lambda z: z[:, :2])(x)
    with pytest.raises(UsageError, match=r"Got the surrogate's output with \(2, 3\)"):
        BPDA(up, lambda z: z[:, :2], lambda z: z[:, :3])(x)
    assert BPDA(up, lambda z: z[:, :2])(x.detach()).shape == (2, 2)
