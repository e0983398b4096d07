"""Orthogonal PGD on guards whose exact reach is known."""

import math

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from buckler import draws
from buckler.attacks.orthogonal import OrthogonalPGD, across
from buckler.attacks.pgd import PGD
from buckler.errors import UsageError
from buckler.models import Counted
from buckler.testing import check_attack
from buckler.threats import Goal, LpBall

# A guard in the plane: wrong where a·d > m, rejected where w·d > 0.05, with d = x − 1/2. The
# detector's slope has a part along the classifier's and is steeper, so that a sum of both losses
# goes backwards. Within the disc of radius eps, with the detector at rest, the classifier's logit
# rises by |a without its part along w| · eps and no more.
A, W = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 1.0])
LIMIT = 1 / math.sqrt(10)  # |a without w|
Y = torch.zeros(3, dtype=torch.int64)
X = torch.full((3, 2), 0.5)
EPS = 0.3


def guard(margin: float):
    def view(x: Tensor) -> Tensor:
        d = x - 0.5
        up = (d @ A.to(x) - margin) / 2
        classes = torch.stack([-up, up], 1)
        reject = classes.amax(1) + d @ W.to(x) - 0.001
        return torch.cat([classes, reject[:, None]], 1)

    return view


def won(view, x_adv: Tensor) -> list[bool]:
    return (Goal("guarded").objective(view(x_adv), Y) > 0).tolist()


def test_orthogonal_pgd_wins_where_a_sum_of_losses_goes_backwards() -> None:
    threat = LpBall("l2", EPS, goal=Goal("guarded"))
    view = guard(0.95 * LIMIT * EPS)

    def summed(x: Tensor) -> Tensor:
        z = view(x)
        both = (z[:, 1] - z[:, 0]) + (z[:, :2].amax(1) - z[:, 2])
        return torch.stack([torch.zeros_like(both), both], 1)

    by_sum = PGD(steps=60, loss="margin", stop=False)(summed, X, Y, LpBall("l2", EPS))
    assert won(view, by_sum) == [False] * 3
    assert bool((by_sum[:, 0] < 0.5).all()), "the sum's gradient points away from the other class"
    x_adv = OrthogonalPGD(steps=60)(view, X, Y, threat)
    assert won(view, x_adv) == [True] * 3
    assert bool(threat.contains(X, x_adv).all())


def test_orthogonal_pgd_wins_nothing_that_is_out_of_reach() -> None:
    """The exact optimum adds the detector's slack of 0.001: 5 % over the limit is beyond it."""
    view = guard(1.05 * LIMIT * EPS)
    x_adv = OrthogonalPGD(steps=60, restarts=3)(view, X, Y, LpBall("l2", EPS, goal=Goal("guarded")))
    assert won(view, x_adv) == [False] * 3


def test_its_steps_leave_the_detector_as_it_is() -> None:
    """Every point on the way to the win scores as x does; PGD-selective's do not."""
    view = guard(0.9 * LIMIT * EPS)
    seen: list[Tensor] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return view(x)

    for norm, eps in (("l2", EPS), ("linf", EPS)):
        threat = LpBall(norm, eps, goal=Goal("guarded"))
        seen.clear()
        x_adv = OrthogonalPGD(steps=40, step_size=0.05)(watched, X, Y, threat)
        assert won(view, x_adv) == [True] * 3
        scores = torch.cat([(x - 0.5) @ W for x in seen])
        assert float(scores.abs().max()) < 1e-5
    seen.clear()
    PGD(steps=40, step_size=0.05, loss="selective")(watched, X, Y, threat)
    assert float(torch.cat([(x - 0.5) @ W for x in seen]).abs().max()) > 0.01


def test_parallel_gradients_fall_back_to_a_selective_step() -> None:
    """A guard that is unsure near its border: both gradients lie on one line, nothing is across."""

    def view(x: Tensor) -> Tensor:
        u = x[:, 0] - 0.5
        z = torch.stack([-5 * u, 5 * u], 1)
        return torch.cat([z, (z.amax(1) + 1 - 10 * u.abs())[:, None]], 1)

    x = torch.full((3, 1), 0.35)
    threat = LpBall("linf", 0.3, goal=Goal("guarded"))
    assert won(view, OrthogonalPGD(steps=60)(view, x, Y, threat)) == [True] * 3


def test_across_is_the_orthogonal_part_and_the_gradient_itself_where_none_is_left() -> None:
    grad, other = torch.tensor([[3.0, 4.0], [2.0, 2.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0]] * 3)
    other[1] = torch.tensor([-7.0, -7.0])
    other[2] = 0
    expected = torch.tensor([[0.0, 1.0], [0.5**0.5, 0.5**0.5], [0.0, 1.0]])
    torch.testing.assert_close(across(grad, other, LpBall("l2", 1.0)), expected)
    expected = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    torch.testing.assert_close(across(grad, other, LpBall("linf", 0.1)), expected)


def test_across_in_l_infinity_is_the_linear_programme_s_optimum() -> None:
    ids = torch.arange(20)
    grad, other = (draws.normal(seed, ids, 0, (7,)).double() for seed in (0, 1))
    other[:5, 2:4] = 0
    move = across(grad, other, LpBall("linf", 0.1))
    torch.testing.assert_close((move * other).sum(1), torch.zeros(20).double(), atol=1e-9, rtol=0)
    assert float(move.abs().max()) <= 1
    for row in range(20):
        best = linprog(
            -grad[row].numpy(), A_eq=other[row : row + 1].numpy(), b_eq=[0], bounds=(-1, 1)
        )
        assert float((move[row] * grad[row]).sum()) == pytest.approx(-best.fun, abs=1e-8)


EACH = Goal("targeted", torch.tensor([0, 1, 1, 0, 1, 0, 0]))


@pytest.mark.parametrize("loss", ["margin", "ce"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.4)])
def test_contract(norm: str, eps: float, loss: str) -> None:
    """With targets among the two classes: the contract's labels may be the reject class."""
    check_attack(OrthogonalPGD(steps=6, restarts=2, loss=loss), LpBall(norm, eps, goal=EACH))


def test_one_forward_and_two_backwards_a_step() -> None:
    counted = Counted(guard(9.0))
    OrthogonalPGD(steps=5)(counted, X, Y, LpBall("l2", EPS, goal=Goal("guarded")))
    assert (counted.forwards, counted.backwards) == (6 * 3, 5 * 3 * 2)


def test_targets_go_with_their_rows_through_parts_of_a_large_batch() -> None:
    """150 rows of 1200 values pass the model in several parts."""
    x = 0.5 + torch.zeros(150, 1200)
    target = torch.arange(150) % 2
    y = 1 - target

    def view(x: Tensor) -> Tensor:
        up = x[:, 0] - 0.5
        return torch.stack([-up, up, x[:, 1] - 2], 1)

    threat = LpBall("linf", 0.2, goal=Goal("targeted", target))
    x_adv = OrthogonalPGD(steps=5)(view, x, y, threat)
    assert bool((view(x_adv).argmax(1) == target).all())


def test_what_orthogonal_pgd_refuses() -> None:
    ball = LpBall("l2", EPS, goal=Goal("guarded"))
    with pytest.raises(UsageError, match=r"needs the goal 'guarded' .* Got 'untargeted'"):
        OrthogonalPGD()(guard(0.1), X, Y, LpBall("l2", EPS))
    with pytest.raises(UsageError, match=r"L-infinity or L2 ball\. Got l1 eps"):
        OrthogonalPGD()(guard(0.1), X, Y, LpBall("l1", EPS, goal=Goal("guarded")))
    with pytest.raises(UsageError, match=r"at least 2 classes and .* Got 2 logits, with gradients"):
        OrthogonalPGD()(lambda x: guard(0.1)(x)[:, :2], X, Y, ball)
    with pytest.raises(UsageError, match=r"Got 3 logits, without gradients"):
        OrthogonalPGD()(lambda x: guard(0.1)(x).detach(), X, Y, ball)
    with pytest.raises(UsageError, match="gradient is NaN or infinite"):
        OrthogonalPGD()(lambda x: guard(0.1)((x - 0.5).sqrt()), X, Y, ball)
    with pytest.raises(UsageError, match=r"steps >= 1.*Got steps=0"):
        OrthogonalPGD(steps=0)
    with pytest.raises(UsageError, match=r"loss must be one of .* Got 'mse'"):
        OrthogonalPGD(loss="mse")
    assert OrthogonalPGD()(guard(0.1), X[:0], Y[:0], ball).shape == (0, 2)
