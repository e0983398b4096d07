"""Square: its windows, its count of queries, and success where success is known to exist."""

import pytest
import torch
from scipy.stats import chi2

from buckler.attacks import Square
from buckler.attacks.engine import ActiveSet
from buckler.threats import LpBall
from tests.attacks.exact_linear import CASES, Counting, exact_linear, inputs, radius


class Falling:
    """Each query scores lower than the last: no proposal is ever taken."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.clone())
        score = torch.full((len(x),), -float(len(self.seen)))
        return torch.stack([torch.zeros(len(x)), score], 1)


def windows(shape: tuple[int, ...], queries: int, p: float) -> torch.Tensor:
    """(queries − 1, n, ...): where each proposal differs from the stripes it started from."""
    model = Falling()
    x = torch.full((8, *shape), 0.5)
    Square(queries=queries, p=p)(model, x, torch.zeros(8).long(), LpBall("linf", 0.1))
    assert len(model.seen) == queries
    seen = torch.stack(model.seen)
    return seen[1:] != seen[0]


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 6), (6, 5), (13,)])
def test_each_pixel_is_drawn_equally_often_the_last_row_and_column_too(
    shape: tuple[int, ...],
) -> None:
    """Windows of one pixel; in AutoAttack the last row and column are never drawn for size 1.

    Half of the proposals repeat the sign that is there. Chi-square over the pixels: a right
    implementation fails in 1 of 10,000 seeds.
    """
    changed = windows(shape, 600, 1e-9).flatten(0, 1).float()
    assert bool((changed.flatten(1).sum(1) <= (3 if len(shape) == 3 else 1)).all())
    places = changed[:, :1] if len(shape) == 3 else changed
    count = places.flatten(1).sum(0)
    expected = float(count.mean())
    assert expected > 50
    assert float(((count - expected) ** 2 / expected).sum()) < chi2.ppf(1 - 1e-4, len(count) - 1)


@pytest.mark.parametrize(("shape", "p"), [((1, 4, 12), 0.3), ((1, 12, 4), 0.3), ((1, 9, 9), 0.5)])
def test_windows_are_blocks_of_the_share_p(shape: tuple[int, ...], p: float) -> None:
    """Solid ones of one sign; in a narrow image the longer side makes up for the shorter."""
    attack, threat = Square(queries=1000, p=p), LpBall("linf", 0.1)
    x = torch.full((8, *shape), 0.5)
    active = ActiveSet(x, torch.zeros(8).long(), threat, None)
    blank = torch.full_like(x, 0.45)
    area = p * shape[1] * shape[2]
    for query in range(2):
        changed = attack._propose(active, blank, 0, query) - blank
        up = changed.flatten(1).amax(1) > 0.05
        for block in changed[up]:
            rows, columns = block[0].abs().sum(1) > 0, block[0].abs().sum(0) > 0
            solid = rows[:, None] & columns[None]
            assert torch.equal(block[0] > 0.05, solid)
            assert abs(float(solid.sum()) - area) <= 0.35 * area


def test_the_share_is_halved_along_the_papers_schedule() -> None:
    attack = Square(queries=10_000, p=0.8)
    shares = [attack._share(query) for query in (0, 10, 11, 51, 201, 501, 1001, 2001, 4001, 8001)]
    halvings = [0, 0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert shares == [0.8 / 2**halving for halving in halvings]
    assert Square(queries=100, p=0.8)._share(50) == 0.8 / 2**7


@pytest.mark.parametrize("queries", [1, 2, 37])
def test_exactly_as_many_queries_as_asked(queries: int) -> None:
    model = Counting(exact_linear((5, 6), 3))
    x, y, _ = inputs(9, (5, 6), model)
    model.rows = 0
    Square(queries=queries)(model, x, y, LpBall("linf", 1e-9))
    assert model.rows == 9 * queries
    assert model.calls == 1 + queries


def test_a_won_row_costs_no_more_queries() -> None:
    model = Counting(exact_linear((5, 6), 3))
    x, y, _ = inputs(9, (5, 6), model)
    y = torch.where(torch.arange(9) < 6, (y + 1) % 3, y)
    model.rows = 0
    Square(queries=20)(model, x, y, LpBall("linf", 1e-9))
    assert model.rows == 6 + 3 * 20


@pytest.mark.parametrize(("shape", "classes"), CASES)
def test_on_a_linear_model(shape: tuple[int, ...], classes: int) -> None:
    """No win below the exact radius, and most of those above twice it."""
    model = exact_linear(shape, classes)
    x, y, _ = inputs(20, shape, model)
    exact = radius(model, x, y, "linf")
    below = LpBall("linf", 0.99 * exact)
    x_adv = Square(queries=150)(model, x, y, below)
    assert bool(below.contains(x, x_adv).all())
    assert (model(x_adv).argmax(1) == y).all()
    above = LpBall("linf", 2 * exact)
    x_adv = Square(queries=300)(model, x, y, above)
    assert bool(above.contains(x, x_adv).all())
    share = float((model(x_adv).argmax(1) != y).double().mean())
    assert share >= 0.95, f"Square won {share:.0%} of rows that can be won at half the eps"


def test_more_queries_never_do_worse() -> None:
    model = exact_linear((5, 6), 3)
    x, y, _ = inputs(20, (5, 6), model)
    threat = LpBall("linf", 0.99 * radius(model, x, y, "linf"))
    values = [
        threat.goal.objective(model(Square(queries=q)(model, x, y, threat)), y).mean()
        for q in (10, 60, 300)
    ]
    assert values[0] < values[2] <= 0


def test_points_are_corners_of_the_ball() -> None:
    model = exact_linear((5, 6), 3)
    x, y, _ = inputs(5, (5, 6), model)
    x_adv = Square(queries=50)(model, x, y, LpBall("linf", 1e-3))
    assert torch.allclose((x_adv - x).abs(), torch.tensor(1e-3, dtype=x.dtype))
