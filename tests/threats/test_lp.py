"""LpBall: projections against brute force, points that stay inside, and sentences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from buckler import draws
from buckler.errors import UsageError
from buckler.threats import Goal, LpBall

BOXES = [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-0.1, 0.3), (-1000.0, 1000.0)]


def points(n: int, shape: tuple[int, ...], box: tuple[float, float], seed: int) -> torch.Tensor:
    """Inputs, a fifth of whose values lie exactly at the walls."""
    rows = torch.arange(n)
    u = 1.25 * draws.uniform(seed, rows, 0, shape) - 0.125
    return (box[0] + (box[1] - box[0]) * u).clamp(*box)


def moved(x: torch.Tensor, eps: float, seed: int) -> torch.Tensor:
    noise = draws.normal(seed, torch.arange(len(x)), 9, tuple(x.shape[1:]))
    far = torch.tensor([0.05, 1.0, 5.0, 1e4])[torch.arange(len(x)) % 4]
    return x + eps * far.reshape(-1, *[1] * (x.ndim - 1)) * noise


def by_bisection(x: np.ndarray, z: np.ndarray, eps: float, box: tuple[float, float]) -> np.ndarray:
    """The L2 projection as clip(x + s·delta), s by 200 halvings in float64: the oracle."""
    low, high = 0.0, 1.0
    for _ in range(200):
        s = (low + high) / 2
        inside = np.linalg.norm(np.clip(x + s * (z - x), *box) - x) <= eps
        low, high = (s, high) if inside else (low, s)
    whole = np.clip(z, *box)
    return whole if np.linalg.norm(whole - x) <= eps else np.clip(x + low * (z - x), *box)


@pytest.mark.parametrize("box", [(0.0, 1.0), (-0.1, 0.3)])
@pytest.mark.parametrize("d", [1, 2, 7, 200])
def test_l2_projection_against_bisection(d: int, box: tuple[float, float]) -> None:
    eps = 0.3 * (box[1] - box[0]) * d**0.5
    x = points(40, (d,), box, 0).double()
    z = moved(x, eps, 1)
    got = LpBall("l2", eps, box).project(x, z)
    for row in range(40):
        expected = by_bisection(x[row].numpy(), z[row].numpy(), eps, box)
        np.testing.assert_allclose(got[row].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_projection_against_a_general_optimiser(norm: str, seed: int) -> None:
    """scipy's SLSQP knows nothing of the closed form."""
    x = points(1, (4,), (0.0, 1.0), seed)[0].double().numpy()
    z = x + np.random.default_rng(seed).normal(size=4)
    eps = 0.35
    if norm == "l2":
        limits = {"type": "ineq", "fun": lambda p: eps**2 - ((p - x) ** 2).sum()}
        bounds = [(0, 1)] * 4
    elif norm == "l1":  # |p − x| as two smooth halves is more than SLSQP needs: signs are known
        side = np.sign(z - x)
        limits = {"type": "ineq", "fun": lambda p: eps - (side * (p - x)).sum()}
        bounds = [(v, 1) if up > 0 else (0, v) for v, up in zip(x, side, strict=True)]
    else:
        limits = ()
        bounds = [(max(0, v - eps), min(1, v + eps)) for v in x]
    solved = minimize(
        lambda p: ((p - z) ** 2).sum(),
        x,
        jac=lambda p: 2 * (p - z),
        bounds=bounds,
        constraints=limits,
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    got = LpBall(norm, eps).project(torch.from_numpy(x)[None], torch.from_numpy(z)[None])[0]
    np.testing.assert_allclose(got.numpy(), solved.x, atol=2e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("shape", [(6,), (3, 4), (2, 3, 4)])
def test_no_random_feasible_point_is_nearer(norm: str, shape: tuple[int, ...]) -> None:
    threat = LpBall(norm, 0.4)
    x = points(20, shape, threat.box, 0)
    z = moved(x, 0.4, 1)
    p = threat.project(x, z)
    best = (p - z).flatten(1).norm(dim=1)
    for step in range(200):
        q = threat.random_point(x, 3, torch.arange(20), step)
        if step % 2:  # points near the projection are the hard ones
            q = threat.project(x, p + 0.02 * (q - p))
        assert bool((best <= (q - z).flatten(1).norm(dim=1) + 1e-6).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("share", [0.0003, 0.1, 0.9])
@pytest.mark.parametrize("shape", [(1,), (3072,)])
def test_projected_and_random_points_are_inside(
    norm: str, box: tuple[float, float], share: float, shape: tuple[int, ...]
) -> None:
    """float32 rounds at the size of x, not of eps: with box (0, 255) and eps 0.1 that showed."""
    eps = share * (box[1] - box[0])
    threat = LpBall(norm, eps, box)
    x = points(16, shape, box, 0)
    rows = torch.arange(16)
    for candidates in (threat.project(x, moved(x, eps, 1)), threat.random_point(x, 2, rows, 0), x):
        assert bool(threat.contains(x, candidates).all())
        assert candidates.dtype == x.dtype


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_points_inside_stay_and_projecting_twice_changes_nothing(norm: str) -> None:
    threat = LpBall(norm, 0.3)
    x = points(30, (3, 5), threat.box, 0).double()
    inside = threat.random_point(x, 1, torch.arange(30), 0)
    torch.testing.assert_close(threat.project(x, inside), inside, rtol=0, atol=1e-12)
    once = threat.project(x, moved(x, 0.3, 1))
    torch.testing.assert_close(threat.project(x, once), once, rtol=0, atol=1e-12)
    assert torch.equal(threat.project(x, x), x)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_huge_inputs_keep_the_promise(norm: str) -> None:
    threat = LpBall(norm, 0.5)
    x = points(2, (150_528,), threat.box, 0)
    assert bool(threat.contains(x, threat.project(x, moved(x, 3.0, 1))).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_contains_is_strict(norm: str) -> None:
    threat = LpBall(norm, 0.1)
    x = torch.full((1, 4), 0.5)

    def verdict(*values: float) -> bool:
        return bool(threat.contains(x, torch.tensor([values])))

    assert verdict(0.6, 0.5, 0.5, 0.5)
    assert not verdict(0.6001, 0.5, 0.5, 0.5)
    assert not verdict(float("nan"), 0.5, 0.5, 0.5)
    assert not verdict(float("inf"), 0.5, 0.5, 0.5)
    wall = torch.tensor([[1.0, 0.0, 0.5, 0.5]])
    assert not bool(threat.contains(wall, wall + torch.tensor([1e-6, 0, 0, 0])))
    assert not bool(threat.contains(wall, wall - torch.tensor([0, 1e-9, 0, 0])))


def test_distance() -> None:
    x = torch.zeros(1, 2, 2)
    x_adv = torch.tensor([[[3.0, -4.0], [0.0, 0.0]]])
    assert LpBall("linf", 1, (-9, 9)).distance(x, x_adv).tolist() == [4.0]
    assert LpBall("l2", 1, (-9, 9)).distance(x, x_adv).tolist() == [5.0]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_eps_may_be_one_a_row(norm: str) -> None:
    eps = torch.tensor([0.01, 0.1, 0.5])
    threat = LpBall(norm, eps)
    x, rows = points(3, (6,), threat.box, 0), torch.tensor([5, 6, 7])
    z = x + 3
    one = torch.cat(
        [LpBall(norm, float(e)).project(x[i : i + 1], z[i : i + 1]) for i, e in enumerate(eps)]
    )
    torch.testing.assert_close(threat.project(x, z), one)
    far = threat.distance(x, threat.project(x, z))
    assert bool((far <= eps * 1.00001).all())
    assert threat.contains(x, x + 0.05 * (x < 0.9)).tolist()[0] is False
    idx = torch.tensor([2, 0])
    whole = threat.random_point(x, 1, rows, 0)
    torch.testing.assert_close(
        threat.take(idx).random_point(x[idx], 1, rows[idx], 0), whole[idx], rtol=0, atol=1e-7
    )
    assert threat.to_dict()["eps"] == pytest.approx([0.01, 0.1, 0.5])
    assert str(threat) == f"{norm} eps per row"


@pytest.mark.parametrize("box", [(0.0, 0.5), (0.0, 1.0)])
def test_take_of_no_rows(box: tuple[float, float]) -> None:
    """Every attack takes the empty set when the last row is won."""
    threat = LpBall("linf", torch.full((3,), 0.1), box, Goal("targeted", torch.tensor([0, 1, 2])))
    none = threat.take(torch.tensor([], dtype=torch.long))
    assert len(none.eps) == len(none.goal.target) == 0
    empty = torch.zeros(0, 4)
    assert none.project(empty, empty).shape == (0, 4)
    assert none.contains(empty, empty).shape == (0,)
    assert none.random_point(empty, 0, torch.arange(0), 0).shape == (0, 4)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("d", [1, 2, 50])
def test_random_points_fill_the_ball(norm: str, d: int) -> None:
    """The share within half the radius is 2^−d; 4 standard errors: once in 15,000 seeds."""
    threat = LpBall(norm, 0.2)
    n = 20_000
    x = torch.full((n, d), 0.5)
    p = threat.random_point(x, 0, torch.arange(n), 0)
    share = float((threat.distance(x, p) <= 0.1).double().mean())
    slack = 4 * (0.5**d * (1 - 0.5**d) / n) ** 0.5 + 1e-9
    assert abs(share - 0.5**d) <= slack
    assert float(threat.distance(x, p).max()) > 0.19
    assert float((p - x).mean(0).abs().max()) < 0.01


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_random_points_are_keyed_by_seed_row_and_step(norm: str) -> None:
    threat = LpBall(norm, 0.2)
    x, rows = points(8, (3, 4), threat.box, 0), torch.arange(8)
    whole = threat.random_point(x, 1, rows, 2)
    some = torch.tensor([6, 1])
    torch.testing.assert_close(
        threat.random_point(x[some], 1, some, 2), whole[some], rtol=0, atol=1e-7
    )
    for other in (threat.random_point(x, 2, rows, 2), threat.random_point(x, 1, rows, 3)):
        assert not torch.allclose(other, whole)


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-22, 1.0, 1e30])
@pytest.mark.parametrize(("norm", "order"), [("linf", torch.inf), ("l2", 2)])
def test_steepest_has_norm_one_however_small_the_gradient(
    norm: str, order: float, scale: float
) -> None:
    """A saturated cross entropy gives gradients whose squares underflow in float32."""
    grad = scale * torch.ones(2, 3, 4)
    direction = LpBall(norm, 0.1).steepest(grad)
    length = torch.linalg.vector_norm(direction.flatten(1), ord=order, dim=1)
    torch.testing.assert_close(length, torch.ones(2))


def test_an_l1_step_is_shared_by_the_steepest_twentieth() -> None:
    grad = draws.normal(0, torch.arange(5), 0, (40,))
    step = LpBall("l1", 1.0).steepest(grad)
    torch.testing.assert_close(step.abs().sum(1), torch.ones(5))
    assert (step != 0).sum(1).tolist() == [2] * 5
    top = grad.abs().topk(2, dim=1).values.mean(1)
    torch.testing.assert_close((step * grad).sum(1), top)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steepest_rises_most(norm: str) -> None:
    grad = draws.normal(0, torch.arange(5), 0, (8,))
    threat = LpBall(norm, 1.0, (-5.0, 5.0))
    best = (threat.steepest(grad) * grad).sum(1)
    dual = grad.norm(p=1 if norm == "linf" else 2, dim=1)
    torch.testing.assert_close(best, dual)
    assert threat.steepest(torch.zeros(2, 8)).abs().max() == 0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_unbounded_covers_the_box(norm: str) -> None:
    threat = LpBall(norm, 0.1, (-1.0, 2.0)).unbounded(torch.zeros(2, 3, 4))
    low, high = torch.full((1, 3, 4), -1.0), torch.full((1, 3, 4), 2.0)
    assert bool(threat.contains(low, high).all())
    torch.testing.assert_close(threat.project(low, high), high)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("l3", 0.1), r"norm must be one of linf, l2, l1\. Got 'l3'"),
        (("linf", 8.0), r"Got 8 with box \(0, 1\): did you mean 8/255\?"),
        (("linf", 8), r"did you mean 8/255\?"),
        (("linf", torch.tensor([0.1, 4.0])), r"Got 4 with box \(0, 1\): did you mean 4/255\?"),
        (("linf", 300.0, (0.0, 255.0)), r"Got 300 with box \(0, 255\)$"),
        (("linf", 0.7, (0.0, 0.5)), r"Got 0\.7 with box \(0, 0\.5\)$"),
        (("linf", 0.0), r"eps must be a finite number > 0, in input units\. Got 0\.0"),
        (("l2", -1.0), r"finite number > 0, in input units\. Got -1\.0"),
        (("l2", float("nan")), "Got nan"),
        (("l2", float("inf")), "Got inf"),
        (("l2", torch.tensor([0.1, 0.0])), "eps must be a finite number > 0"),
        (
            ("linf", 0.1, (1.0, 0.0)),
            r"box must be \(low, high\) with low < high\. Got \(1\.0, 0\.0\)",
        ),
    ],
)
def test_an_impossible_ball_is_refused(arguments: tuple, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        LpBall(*arguments)


def test_an_l2_ball_may_be_wider_than_the_box() -> None:
    assert str(LpBall("l2", 3.0)) == "l2 eps 3"


def test_values() -> None:
    threat = LpBall("linf", 8 / 255)
    assert threat.with_goal(Goal("denial")) == replace(threat, goal=Goal("denial"))
    assert threat.to_dict() == {
        "kind": "lp",
        "norm": "linf",
        "eps": 8 / 255,
        "goal": "untargeted",
    }
    assert str(threat) == "linf eps 0.03137"


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_projection_of_values_of_all_sizes(norm: str) -> None:
    """One value a million times the others: what is left beside it must not be rounding."""
    rows = torch.arange(400)
    x = draws.uniform(0, rows, 0, (40,))
    x[:, :15] = x[:, :15].round()
    spread = torch.exp(6 * draws.normal(0, rows, 1, (40,)))
    far = x + draws.normal(0, rows, 2, (40,)) * spread
    eps = 0.001 + 0.9 * draws.uniform(0, rows, 3, ())
    threat = LpBall(norm, eps)
    point = threat.project(x, far)
    assert bool(threat.contains(x, point).all())
    exact = LpBall(norm, eps.double()).project(x.double(), far.double())
    assert float((point - exact).abs().max()) < 1e-5


def test_steepest_of_gradients_of_all_sizes_row_by_row() -> None:
    grad = draws.normal(0, torch.arange(5), 0, (30,))
    scaled = grad * torch.tensor([1.0, 1e-30, 1e25, 0.0, 1.0])[:, None]
    steepest = LpBall("l2", 0.1).steepest(scaled)
    lengths = torch.linalg.vector_norm(steepest, dim=1)
    torch.testing.assert_close(lengths, torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0]))
    assert torch.equal(steepest[[0, 4]], LpBall("l2", 0.1).steepest(grad[[0, 4]]))


def test_eps_of_more_than_one_dimension_is_refused() -> None:
    with pytest.raises(UsageError, match=r"one number, or a tensor \(n,\).*Got \(3, 1, 1, 1\)"):
        LpBall("linf", torch.full((3, 1, 1, 1), 0.1))
