"""HopSkipJump against exact distances, its budget, and what other libraries get wrong in it."""

import pytest
import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.hopskipjump import HopSkipJump
from buckler.errors import UsageError
from buckler.models import Counted
from buckler.testing import check_attack
from buckler.threats import Goal, LpBall
from tests.attacks.exact_linear import exact_linear, inputs, radius

EACH = Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0]))
ANY, L1 = LpBall("l2", 1.0), LpBall("l1", 1.0)


def task(shape=(5, 6), classes=3, n=12):
    model = exact_linear(shape, classes)
    x, y, _ = inputs(n, shape, model)
    return model, x, y


def one_hot(model):
    def answers(x: Tensor) -> Tensor:
        logits = model(x)
        return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits)

    return answers


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(("shape", "classes"), [((30,), 2), ((5, 6), 3), ((3, 2, 5), 10)])
def test_it_finds_the_distance_of_a_linear_model(shape, classes: int, norm: str) -> None:
    """Never below the exact distance, and within a fifth of it for most rows."""
    model, x, y = task(shape, classes)
    exact, threat = radius(model, x, y, norm), LpBall(norm, 1.0)
    x_adv = HopSkipJump(queries=3000)(model, x, y, threat)
    assert (model(x_adv).argmax(1) != y).all()
    assert float(x_adv.min()) >= 0
    assert float(x_adv.max()) <= 1
    ratio = threat.distance(x, x_adv) / exact
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio.median()) < 1.2


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_it_sees_nothing_but_the_answer(norm: str) -> None:
    model, x, y = task()
    threat, attack = LpBall(norm, 1.0), HopSkipJump(queries=300)
    assert torch.equal(attack(one_hot(model), x, y, threat), attack(model, x, y, threat))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_row_does_not_feel_its_batch(norm: str) -> None:
    """In Foolbox the estimate is divided by the norm of the whole batch's, so that the step
    depends on who shares it."""
    model, x, y = task()
    rows, threat, attack = 50 + torch.arange(12), LpBall(norm, 1.0), HopSkipJump(queries=400)
    whole = attack(model, x, y, threat, seed=3, rows=rows)
    for row in (0, 7, 11):
        one = slice(row, row + 1)
        alone = attack(model, x[one], y[one], threat, seed=3, rows=rows[one])
        assert torch.allclose(alone[0], whole[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_box_is_the_threats(norm: str) -> None:
    """In Foolbox points are cut to [0, 1] whatever the bounds; here 255 times the input is the
    same task, and the same path."""
    model, x, y = task()
    small, seen = HopSkipJump(queries=500)(model, x, y, LpBall(norm, 1.0)), []

    def of_bytes(z: Tensor) -> Tensor:
        seen.append(z)
        return model(z / 256)

    large = HopSkipJump(queries=500)(of_bytes, x * 256, y, LpBall(norm, 1.0, (0.0, 256.0)))
    assert torch.allclose(large / 256, small, rtol=0, atol=1e-9)
    assert min(float(z.min()) for z in seen) >= 0
    assert 1 < max(float(z.max()) for z in seen) <= 256


def test_a_row_that_nothing_wins_uses_exactly_its_queries() -> None:
    def never(x: Tensor) -> Tensor:
        return torch.stack([x.flatten(1).mean(1) * 0 + 9, x.flatten(1).mean(1)], 1)

    x, y = torch.full((5, 1, 4, 4), 0.3), torch.zeros(5).long()
    for queries in (1, 2, 40):
        counted = Counted(never)
        x_adv = HopSkipJump(queries)(counted, x, y, ANY)
        assert counted.forwards == 5 * queries
        objective = ANY.goal.objective(never(x_adv), y)
        assert bool((objective >= ANY.goal.objective(never(x), y)).all())
        assert torch.isfinite(x_adv).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(("least", "most"), [(0.2, 0.7), (-2.0, -0.3)], ids=["blend", "negative"])
def test_a_start_is_found_where_noise_never_wins(least: float, most: float, norm: str) -> None:
    """The answer depends on how much of x is left in a point: noise, blocks and corners keep none
    of it, a blend some, the negative is its opposite."""
    x, y = draws.uniform(5, torch.arange(1), 0, (1, 24, 24)).double(), torch.tensor([0])

    def model(z: Tensor) -> Tensor:
        kept = ((z - 0.5) * (x - 0.5)).flatten(1).sum(1) / (x - 0.5).square().sum()
        return torch.stack([torch.zeros_like(kept), ((kept - least) * (most - kept)).sign()], 1)

    for seed in range(6):
        x_adv = HopSkipJump(200)(model, x, y, LpBall(norm, 1.0), seed=seed)
        assert model(x_adv).argmax(1).item() == 1


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_win_outlives_rounding(norm: str) -> None:
    """Bisected to the last bit, an answer wins in one batch and loses in another: it lies 0.1 % of
    the way behind the border."""
    shape = (3, 16, 16)
    model = exact_linear(shape, 3)
    x, y, _ = inputs(8, shape, model)
    x_adv = HopSkipJump(queries=700)(model, x, y, LpBall(norm, 1.0))
    assert (model(x_adv).argmax(1) != y).all()
    assert (model(torch.lerp(x, x_adv, 1 - 9e-4)).argmax(1) != y).all()


def test_probes_of_earlier_rounds_count() -> None:
    """On a straight border every probe tells of the same normal: the median is 1.51 times the exact
    distance here, 1.87 times without memory."""
    shape = (3, 16, 16)
    model = exact_linear(shape, 2)
    x, y, _ = inputs(8, shape, model)
    threat = LpBall("linf", 1.0)
    far = threat.distance(x, HopSkipJump(queries=2000)(model, x, y, threat))
    assert float((far / radius(model, x, y, "linf")).median()) < 1.65


def test_of_several_starts_the_nearest_border_counts() -> None:
    """The first start wins far away, a later one near by: one start a 200 queries is asked."""
    x, y = torch.full((1, 2), 0.5).double(), torch.tensor([0])
    starts = torch.tensor([[0.5, 0.85], [0.9, 0.5]]).double()

    def model(z: Tensor) -> Tensor:
        won = (z[:, 1] > 0.84) & (z[:, 0] < 0.51) | (z[:, 0] > 0.55) & (z[:, 1] < 0.51)
        return torch.nn.functional.one_hot(won.long(), 2).double()

    for queries, at in ((200, 0.34), (201, 0.05)):
        attack = HopSkipJump(queries, probes=10**4, gamma=1e-3, starts=starts)
        x_adv = attack(model, x, y, ANY)
        assert float(ANY.distance(x, x_adv)) == pytest.approx(at, rel=0.02)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("queries", [1, 2, 3, 7, 30, 117, 300])
def test_no_row_uses_more_than_its_queries(queries: int, norm: str) -> None:
    """A search for the nearest point goes on to the last query; one row, and many in one batch."""
    model, x, y = task()
    threat = LpBall(norm, 1.0)
    for row in range(3):
        counted = Counted(model, limit=queries)
        HopSkipJump(queries)(counted, x[row : row + 1], y[row : row + 1], threat)
        assert counted.forwards == queries
    counted = Counted(model)
    HopSkipJump(queries)(counted, x, y, threat)
    assert counted.forwards == len(x) * queries


def test_more_queries_never_end_farther() -> None:
    model, x, y = task()
    far = [
        ANY.distance(x, HopSkipJump(queries)(model, x, y, ANY)) for queries in (50, 300, 1000, 3000)
    ]
    assert float(far[0].median()) > float(far[1].median()) > float(far[3].median())


def test_a_row_won_as_it_is_costs_one_query() -> None:
    model, x, y = task()
    counted = Counted(model)
    x_adv = HopSkipJump(queries=50)(counted, x, (y + 1) % 3, ANY)
    assert counted.forwards == len(x)
    assert torch.equal(x_adv, x)


def test_within_stops_at_the_first_win_inside_the_ball() -> None:
    model, x, y = task()
    exact = radius(model, x, y, "l2")
    easy, hard = LpBall("l2", 3 * exact), LpBall("l2", 0.99 * exact)
    counted = Counted(model)
    x_adv = HopSkipJump(queries=3000, within=True)(counted, x, y, easy)
    assert (model(x_adv).argmax(1) != y).all()
    assert bool(easy.contains(x, x_adv).all())
    assert counted.forwards < 0.5 * 3000 * len(x)
    counted = Counted(model)
    x_adv = HopSkipJump(queries=200, within=True)(counted, x, y, hard)
    assert bool(hard.contains(x, x_adv).all())
    assert (model(x_adv).argmax(1) == y).all()
    assert counted.forwards == 200 * len(x)


@pytest.mark.parametrize(
    ("threat", "shape"),
    [
        (LpBall("l2", 0.4), (1, 5, 6)),
        (LpBall("linf", 0.1, goal=EACH), (3, 4, 7)),
        (LpBall("l2", 60.0, (0.0, 255.0)), (6, 5)),
        (LpBall("linf", 0.2, (-1.0, 1.0), Goal("guarded")), (24,)),
    ],
    ids=str,
)
def test_contract(threat: LpBall, shape: tuple[int, ...]) -> None:
    check_attack(HopSkipJump(queries=90, probes=20, within=True), threat, shape=shape)


def test_a_targeted_row_walks_in_from_a_start() -> None:
    """Ten classes: random inputs seldom win a target; the nearest start that wins is taken, and
    the starts that were asked before it are paid for."""
    model, x, y = task((3, 2, 5), 10)
    target = (y + 1) % 10
    threat = LpBall("l2", 1.0, goal=Goal("targeted", target))
    starts = draws.uniform(0, torch.arange(300), 0, (3, 2, 5)).double()
    assert set(model(starts).argmax(1).tolist()) == set(range(10))
    counted = Counted(model, limit=600 * len(x))
    x_adv = HopSkipJump(queries=600, starts=starts)(counted, x, y, threat)
    assert (model(x_adv).argmax(1) == target).all()
    wins = model(starts).argmax(1) == target[:, None]
    far = torch.cdist(x.flatten(1), starts.flatten(1)).masked_fill(~wins, torch.inf)
    assert bool((threat.distance(x, x_adv) < 0.7 * far.amin(1)).all())


def test_starts_that_do_not_win_are_passed_over() -> None:
    model, x, y = task((30,), 2)
    asked = []

    def watched(z: Tensor) -> Tensor:
        asked.append(z)
        return model(z)

    starts = torch.cat([x[:1], x[:1] + 1e-6, 1 - x[:1]])
    x_adv = HopSkipJump(queries=40, starts=starts)(watched, x[:1], y[:1], ANY)
    assert [torch.equal(a, b[None]) for a, b in zip(asked[1:4], starts, strict=True)] == [True] * 3
    assert (model(x_adv).argmax(1) != y[:1]).all()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: HopSkipJump(queries=0),
            r"queries >= 1, probes >= 1 and gamma > 0\. Got queries=0",
        ),
        (lambda: HopSkipJump(probes=0), "probes=0"),
        (lambda: HopSkipJump(gamma=0.0), r"gamma=0\.0"),
        (
            lambda: HopSkipJump()(torch.nn.Identity(), torch.rand(1, 4), torch.tensor([0]), L1),
            r"HopSkipJump needs an L-infinity or L2 ball\. Got l1 eps 1",
        ),
        (
            lambda: HopSkipJump()(torch.nn.Identity(), torch.rand(2, 4), torch.tensor([0]), ANY),
            r"one entry a row\. Got 2, 1, 2",
        ),
        (
            lambda: HopSkipJump(starts=torch.rand(3, 5))(*task((4,), 2), ANY),
            r"starts must be inputs of x's shape \(4,\)\. Got \(5,\)",
        ),
    ],
)
def test_wrong_use_is_refused(make, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make()


def test_a_graph_of_x_is_not_followed() -> None:
    """Thousands of queries on one graph would fill the memory."""
    model, (x, y, _) = exact_linear((5, 6), 3), inputs(3, (5, 6), exact_linear((5, 6), 3))
    x_adv = HopSkipJump(90)(model, x.requires_grad_(True), y, ANY)
    assert not x_adv.requires_grad
