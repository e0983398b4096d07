"""Square: its windows and bumps, its count of queries, and success where success is known."""

from itertools import pairwise

import pytest
import torch
from scipy.stats import chi2

from buckler.attacks import Square
from buckler.attacks import square_bumps as bumps
from buckler.attacks import square_windows as windows
from buckler.errors import UsageError
from buckler.models import Counted
from buckler.testing import LinearModel, check_attack
from buckler.threats import Goal, LpBall, PixelBudget
from tests.attacks.exact_linear import CASES, Counting, exact_linear, inputs

DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}
EACH = Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0]))


def radius(model: LinearModel, x: torch.Tensor, y: torch.Tensor, norm: str) -> torch.Tensor:
    """(n,) exact distance to the nearest other class: margin / dual norm of the slopes."""
    logits = model(x)
    margin = logits.gather(1, y[:, None]) - logits
    slopes = model.weight[y][:, None] - model.weight[None]
    dual = torch.linalg.vector_norm(slopes, ord=DUAL[norm], dim=2)
    own = torch.nn.functional.one_hot(y, logits.shape[1]).bool()
    return (margin / dual.masked_fill(own, 1)).masked_fill(own, torch.inf).amin(1)


class Falling:
    """Each query scores lower than the last: no proposal is ever taken."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.clone())
        score = torch.full((len(x),), -float(len(self.seen)))
        return torch.stack([torch.zeros(len(x)), score], 1)


@pytest.mark.parametrize(
    ("threat", "shape"),
    [
        (LpBall("linf", 0.1, goal=Goal("guarded")), (1, 5, 6)),
        (LpBall("l2", 0.4), (1, 5, 6)),
        (LpBall("l2", 0.4, goal=EACH), (3, 4, 7)),
        (LpBall("l2", 1.0, (-1.0, 2.0)), (6, 5)),
        (LpBall("l2", 0.4), (24,)),
        (LpBall("l1", 1.5), (1, 5, 6)),
        (LpBall("l1", 1.5, goal=EACH), (3, 4, 7)),
        (LpBall("l1", 300.0, (0.0, 255.0)), (24,)),
        (LpBall("l1", 1.0), (3, 2, 2)),
    ],
    ids=str,
)
def test_contract(threat: LpBall, shape: tuple[int, ...]) -> None:
    check_attack(Square(queries=30), threat, shape=shape)


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 6), (6, 5), (13,)])
def test_each_pixel_is_drawn_equally_often_and_no_query_is_wasted(shape: tuple[int, ...]) -> None:
    """Windows of one pixel; in AutoAttack the last row and column are never drawn for size 1.

    Chi-square over the pixels: a right implementation fails in 1 of 10,000 seeds.
    """
    model, queries = Falling(), 600
    x = torch.full((8, *shape), 0.5)
    Square(queries, p=1e-9)(model, x, torch.zeros(8).long(), LpBall("linf", 0.1))
    assert len(model.seen) == queries
    seen = torch.stack(model.seen)
    changed = (seen[2:] != seen[1]).flatten(0, 1)
    assert bool(changed.flatten(1).any(1).all()), "a proposal was the point it started from"
    place = changed.any(1) if len(shape) == 3 else changed
    count = place.flatten(1).sum(0).double()
    assert float(count.sum()) == 8 * (queries - 2), "each window is one pixel"
    expected = float(count.mean())
    assert expected > 50
    assert float(((count - expected) ** 2 / expected).sum()) < chi2.ppf(1 - 1e-4, len(count) - 1)


@pytest.mark.parametrize(("shape", "p"), [((1, 4, 12), 0.3), ((3, 12, 4), 0.3), ((1, 9, 9), 0.5)])
def test_windows_are_blocks_of_the_share_p(shape: tuple[int, int, int], p: float) -> None:
    """Solid ones of one sign a channel, each row's its own; a narrow image's longer side makes up
    for the shorter."""
    x, threat = torch.full((40, *shape), 0.5), LpBall("linf", 0.1)
    size = windows.sides(shape, p)
    u = torch.rand(40, 2 + shape[0], generator=torch.Generator().manual_seed(0))
    point = x.flatten(1)
    where, new = windows.flips(x, point, u, size, shape, threat)
    changed = point.scatter(1, where, new).reshape(x.shape) - x
    assert len({tuple(block.flatten().tolist()) for block in (changed != 0)[:, 0]}) > 5
    for image in changed:
        for block in image:
            rows, columns = block.abs().sum(1) > 0, block.abs().sum(0) > 0
            solid = rows[:, None] & columns[None]
            assert len(block[solid].unique()) == 1
            assert torch.equal(block != 0, solid)
            assert abs(float(solid.sum()) - p * shape[1] * shape[2]) <= 0.25 * p * solid.numel()


def test_the_schedule_is_the_papers() -> None:
    steps = (0, 10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)
    shares = [windows.share(0.8, at) for at in steps]
    assert shares == [0.8 / 2**halving for halving in (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)]
    sides = [windows.sides((3, 32, 32), part)[0] for part in shares]
    assert sides == [29, 29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    odd = [windows.sides((3, 32, 32), part, least=3)[0] for part in shares]
    assert odd == [29, 29, 21, 15, 11, 7, 5, 5, 3, 3, 3]


@pytest.mark.parametrize(("rescale", "last"), [(True, 1), (False, 4)])
def test_unscaled_windows_see_the_beginning_of_the_schedule_only(rescale: bool, last: int) -> None:
    """AutoAttack's 5,000 queries use half of the sizes; here 100 of 10,000."""
    model, x = Falling(), torch.full((1, 1, 16, 16), 0.5)
    side = windows.sides((1, 16, 16), windows.share(0.2, 98))[0]
    assert side == 4
    Square(100, p=0.2, rescale=rescale)(model, x, torch.zeros(1).long(), LpBall("linf", 0.1))
    changed = model.seen[-1] != model.seen[1]
    assert int(changed.any(3).sum()) <= last
    assert int(changed.sum()) > (0 if rescale else 1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("queries", [1, 2, 3, 37])
def test_exactly_as_many_queries_as_asked(queries: int, norm: str) -> None:
    model = Counting(exact_linear((5, 6), 3))
    x, y, _ = inputs(9, (5, 6), model)
    model.rows = model.calls = 0
    x_adv = Square(queries)(model, x, y, LpBall(norm, 1e-9))
    assert (model.rows, model.calls) == (9 * queries, queries)
    Square(queries)(Counted(model, limit=queries), x[:1], y[:1], LpBall(norm, 1e-9))
    assert queries > 1 or torch.equal(x_adv, x), "the first query is x itself"


def test_a_won_row_costs_no_more_queries() -> None:
    model = Counting(exact_linear((5, 6), 3))
    x, y, _ = inputs(9, (5, 6), model)
    y = torch.where(torch.arange(9) < 6, (y + 1) % 3, y)
    model.rows = 0
    x_adv = Square(queries=20)(model, x, y, LpBall("linf", 1e-9))
    assert model.rows == 6 + 3 * 20
    assert torch.equal(x_adv[:6], x[:6])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize(("shape", "classes"), CASES)
def test_on_a_linear_model(shape: tuple[int, ...], classes: int, norm: str) -> None:
    """No win below the exact radius, and most of those above some times that radius."""
    model = exact_linear(shape, classes)
    x, y, _ = inputs(20, shape, model)
    exact = radius(model, x, y, norm)
    below = LpBall(norm, 0.99 * exact)
    x_adv = Square(queries=100)(model, x, y, below)
    assert bool(below.contains(x, x_adv).all())
    assert (model(x_adv).argmax(1) == y).all()
    above = LpBall(norm, {"linf": 2, "l2": 3, "l1": 4}[norm] * exact)
    x_adv = Square(queries=300)(model, x, y, above)
    assert bool(above.contains(x, x_adv).all())
    share = float((model(x_adv).argmax(1) != y).double().mean())
    assert share >= 0.9, f"Square won {share:.0%} of rows that can be won"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_more_queries_never_do_worse(norm: str) -> None:
    model = exact_linear((5, 6), 3)
    x, y, _ = inputs(20, (5, 6), model)
    threat = LpBall(norm, 0.99 * radius(model, x, y, norm))
    values = [
        threat.goal.objective(model(Square(queries=q)(model, x, y, threat)), y)
        for q in (1, 10, 60, 300)
    ]
    for fewer, more in pairwise(values):
        assert bool((fewer <= more).all())
    assert values[0].mean() < values[3].mean() <= 0


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_a_proposal_writes_shared_places_twice_the_same_and_keeps_the_norm(norm: str) -> None:
    """x in the middle of a wide box: nothing is cut, so all of eps is used once it is spread."""
    x, image = torch.zeros(200, 2, 9, 7, dtype=torch.float64), (2, 9, 7)
    threat = LpBall(norm, 0.5, (-9.0, 9.0))
    point = bumps.tiled(x, 0, torch.arange(200), image, threat)
    assert torch.allclose(threat.distance(x.flatten(1), point), x.new_tensor(0.5), atol=1e-5)
    for step in range(5):
        u = torch.rand(200, 7, generator=torch.Generator().manual_seed(step)).double()
        where, new = bumps.moves(x, point, u, (5, 5), image, threat)
        forwards, backwards = point.scatter(1, where, new), point.clone()
        for column in reversed(range(where.shape[1])):
            backwards.scatter_(1, where[:, column, None], new[:, column, None])
        assert torch.equal(forwards, backwards), "two values are written to one place"
        assert bool((forwards != point).any(1).all())
        length = threat.distance(x.flatten(1), forwards)
        assert bool((length <= 0.5 * (1 + 1e-9)).all())
        assert float(length.median()) == pytest.approx(0.5, rel=1e-5)
        point = forwards


def test_bumps_fall_off_from_the_middle_of_each_half() -> None:
    over, beside = bumps.bumps((2, 3), 2, torch.zeros(1, dtype=torch.float64))
    half = torch.tensor([0.25, 1.25, 0.25], dtype=torch.float64)  # 1/4, and 1 + 1/4 in the middle
    expected = torch.cat([half, -half]) / (2 * (half**2).sum()) ** 0.5
    assert torch.allclose(over, expected)
    assert torch.linalg.vector_norm(beside) == pytest.approx(1)
    assert torch.equal(beside.reshape(2, 3)[:, 0].sign(), torch.ones(2).double())
    assert torch.equal(beside.reshape(2, 3)[:, 1:].sign(), -torch.ones(2, 2).double())
    tall, _ = bumps.bumps((5, 5), 4, torch.zeros(1))
    assert float(tall.abs().sum()) == pytest.approx(1)


def test_points_are_corners_of_the_ball() -> None:
    model = exact_linear((5, 6), 3)
    x, y, _ = inputs(5, (5, 6), model)
    x_adv = Square(queries=50)(model, x, y, LpBall("linf", 1e-3))
    assert torch.allclose((x_adv - x).abs(), torch.tensor(1e-3, dtype=x.dtype))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_where_everything_else_is_worse_x_comes_back(norm: str) -> None:
    x = torch.full((3, 1, 6, 6), 0.5)
    x_adv = Square(queries=9)(Falling(), x, torch.zeros(3).long(), LpBall(norm, 0.1))
    assert torch.equal(x_adv, x)


def test_other_threats_are_refused() -> None:
    with pytest.raises(UsageError, match=r"an L-infinity, L2 or L1 ball\. Got 1 pixel"):
        Square()(exact_linear((4,), 2), torch.rand(1, 4), torch.tensor([0]), PixelBudget(1))


def test_a_graph_of_x_is_not_followed() -> None:
    """Thousands of queries on one graph would fill the memory."""
    model, (x, y, _) = exact_linear((5, 6), 3), inputs(3, (5, 6), exact_linear((5, 6), 3))
    x_adv = Square(20)(model, x.requires_grad_(True), y, LpBall("l2", 1e-3))
    assert not x_adv.requires_grad
