"""FAB: projections against brute force, and what AutoAttack's parameters promise."""

import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor

from buckler import draws
from buckler.attacks.fab import FAB
from buckler.attacks.fab_projections import onto_plane
from buckler.errors import UsageError
from buckler.models import Counted
from buckler.threats import Goal, LpBall
from tests.attacks.exact_linear import exact_linear, inputs, radius

BOX = (-0.5, 1.0)
ORDER = {"linf": torch.inf, "l2": 2, "l1": 1}


def planes(n: int, size: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Points in the box, normals (some values zero), and gaps: `share` of what the box allows."""
    rows = torch.arange(n)
    x = (BOX[0] + 1.5 * draws.uniform(0, rows, 0, (size,)).double()).clamp(*BOX)
    x[:, 0], x[:, 1] = BOX
    slope = draws.normal(0, rows, 1, (size,)).double()
    slope[:, 2] = 0
    upwards = torch.where(rows % 2 == 0, 1.0, -1.0).double()  # which way the row has to move
    room = torch.where(slope * upwards[:, None] > 0, BOX[1] - x, x - BOX[0])
    return x, slope, -upwards * share * (slope.abs() * room).sum(1)


def shortest(norm: str, x: Tensor, slope: Tensor, gap: float) -> float:
    """scipy's length of the shortest move (one row)."""
    size, low, high = len(x), (BOX[0] - x).numpy(), (BOX[1] - x).numpy()
    a, bounds = slope.numpy(), list(zip(low, high, strict=True))
    if norm == "l2":
        found = minimize(
            lambda d: d @ d,
            (low + high) / 2,
            jac=lambda d: 2 * d,
            bounds=bounds,
            constraints={"type": "eq", "fun": lambda d: a @ d + gap, "jac": lambda d: a},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return float(found.fun**0.5)
    eye, extra = torch.eye(size).numpy(), 1 if norm == "linf" else size
    bound = -torch.ones(size, 1).numpy() if norm == "linf" else -eye
    rows = torch.tensor([*eye.tolist(), *(-eye).tolist()]).double().numpy()
    both = torch.cat([torch.from_numpy(rows), torch.from_numpy(bound).repeat(2, 1)], 1).numpy()
    cost = [0.0] * size + [1.0] * extra
    equal = [[*a.tolist(), *[0.0] * extra]]
    limits = [*bounds, *[(0, None)] * extra]
    found = linprog(cost, both, [0.0] * (2 * size), equal, [-gap], limits)
    return float(found.fun)


@pytest.mark.parametrize("share", [1e-3, 0.2, 0.6, 0.99])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_projection_is_the_shortest_move(norm: str, share: float) -> None:
    x, slope, gap = planes(8, 9, share)
    move = onto_plane(norm, x, slope, gap, BOX)
    assert bool(((x + move >= BOX[0] - 1e-12) & (x + move <= BOX[1] + 1e-12)).all())
    torch.testing.assert_close((slope * move).sum(1), -gap, rtol=1e-9, atol=1e-12)
    length = torch.linalg.vector_norm(move, ord=ORDER[norm], dim=1)
    best = torch.tensor([shortest(norm, *row) for row in zip(x, slope, gap, strict=True)])
    torch.testing.assert_close(length, best.double(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_plane_out_of_the_box_is_approached_as_far_as_can_be(norm: str) -> None:
    x, slope, gap = planes(6, 9, 1.0)
    corner = onto_plane(norm, x, slope, 3 * gap, BOX)
    torch.testing.assert_close((slope * corner).sum(1), -gap)
    assert bool((corner[:, 2] == 0).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("scale", [0.0, 1e-25, 1e25])
def test_projection_of_tiny_and_huge_slopes(norm: str, scale: float) -> None:
    x, slope, gap = (part.float() for part in planes(6, 9, 0.3))
    move = onto_plane(norm, x, slope * scale, gap * scale, BOX)
    assert bool(torch.isfinite(move).all())
    expected = onto_plane(norm, x, slope, gap, BOX) if scale else torch.zeros_like(x)
    torch.testing.assert_close(move, expected, rtol=1e-4, atol=1e-5)


def far_inputs(model) -> tuple[Tensor, Tensor]:
    x = 0.5 + 3 * (inputs(20, (30,), model)[0] - 0.5)
    return x, model(x).argmax(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_within_wins_exactly_where_the_ball_reaches(norm: str, factor: float) -> None:
    model = exact_linear((30,), 3)
    x, y = far_inputs(model)
    exact = radius(model, x, y, norm)
    threat = LpBall(norm, factor * exact)
    x_adv = FAB(steps=10, within=True)(model, x, y, threat)
    assert bool(threat.contains(x, x_adv).all())
    assert bool(((model(x_adv).argmax(1) != y) == (factor > 1)).all())
    before, after = (threat.goal.objective(model(points), y) for points in (x, x_adv))
    assert bool((after > before).all()), "a row that is not won comes back at the ball's edge"


def test_within_rows_leave_with_their_first_win() -> None:
    model = exact_linear((30,), 10)
    x, y = far_inputs(model)
    counted = Counted(model)
    FAB(steps=50, within=True)(counted, x, y, LpBall("linf", 1.0))
    assert counted.backwards <= 2 * len(x)
    every = Counted(model)
    FAB(steps=5)(every, x, y, LpBall("linf", 1.0))
    assert every.backwards == 9 * 5 * len(x)


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_few_classes(classes: int) -> None:
    """AutoAttack's nine targets do not fit fewer than ten classes: all there are, then."""
    model = exact_linear((30,), classes)
    x, y = far_inputs(model)
    counted = Counted(model)
    FAB(steps=3)(counted, x, y, LpBall("l2", 10.0))
    assert counted.backwards == (classes - 1) * 3 * len(x)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_restarts_draw_by_row_and_never_cost_distance(norm: str) -> None:
    model = exact_linear((30,), 3)
    x, y = far_inputs(model)
    threat = LpBall(norm, 0.5)
    once = FAB(steps=2, search=0)(model, x, y, threat)
    twice = FAB(steps=2, search=0, restarts=2)(model, x, y, threat, seed=1)
    assert bool((threat.distance(x, twice) <= threat.distance(x, once)).all())
    some = torch.tensor([7, 3])
    alone = FAB(steps=2, search=0, restarts=2)(model, x[some], y[some], threat, seed=1, rows=some)
    torch.testing.assert_close(alone, twice[some], rtol=0, atol=1e-12)


def test_a_guard_wants_an_answer_that_is_accepted() -> None:
    model = exact_linear((30,), 4)  # the last class stands for "rejected"
    x = 0.5 + 3 * (inputs(60, (30,), model)[0] - 0.5)
    y = model(x)[:, :3].argmax(1)
    threat = LpBall("l2", 10.0, goal=Goal("guarded"))
    answer = model(FAB(steps=20)(model, x, y, threat)).argmax(1)
    assert bool(((answer != y) & (answer != 3)).all())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: FAB(steps=0), r"steps >= 1, .*Got steps=0"),
        (lambda: FAB(search=-1), r"search >= 0\..*search=-1"),
        (lambda: FAB(overshoot=0.9), r"overshoot >= 1 and .*overshoot=0\.9"),
        (lambda: FAB(back=1.0), r"0 < back < 1\..*back=1\.0"),
    ],
)
def test_impossible_parameters_are_refused(make, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make()
