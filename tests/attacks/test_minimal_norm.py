"""Minimal-norm attacks against linear models, whose nearest winning point is known."""

import pytest
import torch
from torch import Tensor, nn

from buckler import draws
from buckler.attacks.carlini_wagner import CW
from buckler.attacks.ddn import DDN
from buckler.attacks.deepfool import DeepFool
from buckler.attacks.fab import FAB
from buckler.attacks.fmn import FMN
from buckler.attacks.nearest import Nearest, farthest_corner, search_towards_x
from buckler.attacks.sigma_zero import SigmaZero
from buckler.errors import UsageError
from buckler.models import Counted
from buckler.testing import LinearModel, check_attack
from buckler.threats import Goal, LpBall, PixelBudget
from tests.attacks.exact_linear import exact_linear
from tests.attacks.exact_linear import inputs as near_inputs

FAR = {"linf": 1.0, "l2": 100.0, "l1": 1000.0}
GREY, COLOUR, PLANE, LINE = (1, 5, 6), (3, 4, 7), (6, 5), (24,)
EACH = Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0]))
WIDE = (-1.0, 2.0)
LP = [
    (FMN(steps=100), "linf"),
    (FMN(steps=100), "l2"),
    (FMN(steps=200), "l1"),
    (DDN(steps=100, loss="margin"), "l2"),  # cross entropy leans to a third class
    (CW(steps=100, searches=9), "l2"),
    (DeepFool(), "l2"),
    (DeepFool(), "linf"),
    (FAB(steps=10), "linf"),
    (FAB(steps=10), "l2"),
    (FAB(steps=10), "l1"),
]
L0 = [FMN(steps=100), SigmaZero(steps=100)]

CONTRACT = [
    (FMN(steps=8), LpBall("linf", 1.0), GREY),
    (FMN(steps=8), LpBall("l2", 300.0, WIDE, Goal("guarded")), PLANE),
    (FMN(steps=8), LpBall("l1", 1000.0, goal=EACH), COLOUR),
    (FMN(steps=8), PixelBudget(1000, grouped=False), COLOUR),
    (DDN(steps=8), LpBall("l2", 100.0), GREY),
    (DDN(steps=8, levels=11), LpBall("l2", 300.0, WIDE, Goal("denial")), LINE),
    (CW(steps=20, searches=3), LpBall("l2", 100.0), GREY),
    (CW(steps=20, searches=3, confidence=0.3), LpBall("l2", 300.0, WIDE, EACH), COLOUR),
    (DeepFool(steps=5), LpBall("l2", 300.0, WIDE, Goal("guarded")), PLANE),
    (DeepFool(steps=5), LpBall("linf", 1.0, goal=EACH), COLOUR),
    (SigmaZero(steps=8), PixelBudget(1000), COLOUR),
    (SigmaZero(steps=8), PixelBudget(1000, WIDE, EACH, grouped=False), GREY),
    (FAB(steps=4, restarts=2), LpBall("linf", 3.0, WIDE, Goal("guarded")), PLANE),
    (FAB(steps=4), LpBall("l1", 1000.0, goal=EACH), COLOUR),
    (FAB(steps=4, within=True), LpBall("l2", 0.4), GREY),
]


@pytest.mark.parametrize(("attack", "threat", "shape"), CONTRACT, ids=str)
def test_contract(attack, threat, shape: tuple[int, ...]) -> None:
    check_attack(attack, threat, shape=shape)


def inputs(n: int, shape: tuple[int, ...], model: LinearModel) -> tuple[Tensor, Tensor, Tensor]:
    """x in [0.3, 0.7], far enough from every border that a share of the distance means something,
    y the model's answer, and the runner-up."""
    x = 0.5 + 4 * (near_inputs(4 * n, shape, model)[0] - 0.5)
    top = model(x).topk(2, 1)
    clear = (top.values[:, 0] - top.values[:, 1]).argsort(descending=True)[:n]
    return x[clear], top.indices[clear, 0], top.indices[clear, 1]


def exact(model: LinearModel, x: Tensor, y: Tensor, norm: str, goal: Goal | None = None) -> Tensor:
    """(n,) distance to the nearest other class, or to the target's side of its pair with y."""
    logits = model(x)
    lead = logits.gather(1, y[:, None]) - logits
    slopes = model.weight[y][:, None] - model.weight[None]
    dual = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    steep = torch.linalg.vector_norm(slopes, ord=dual, dim=2)
    own = nn.functional.one_hot(y, logits.shape[1]).bool()
    far = (lead / steep.masked_fill(own, 1)).masked_fill(own, torch.inf)
    return far.amin(1) if goal is None else far.gather(1, goal.target[:, None])[:, 0]


@pytest.mark.parametrize(("attack", "norm"), LP, ids=str)
def test_a_win_outlives_the_rounding_of_another_batch(attack, norm: str) -> None:
    """Whoever counts asks again, and its last bits differ: here always against the attacker."""
    model = exact_linear((24,), 5)
    x, y, _ = near_inputs(40, (24,), model)
    model = model.float()
    x_adv = attack(model, x.float(), y, LpBall(norm, FAR[norm]))
    logits = model(x_adv)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    lead = others - logits.gather(1, y[:, None])[:, 0]
    assert bool((lead > 8 * torch.finfo(torch.float32).eps * logits.abs().amax(1)).all())


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(("attack", "norm"), LP, ids=str)
def test_nearest_point_of_a_linear_model(attack, norm: str, classes: int) -> None:
    model = exact_linear((30,), classes)
    x, y, _ = inputs(20, (30,), model)
    threat = LpBall(norm, FAR[norm], (-100.0, 101.0) if norm == "l1" else (0.0, 1.0))
    if norm == "l1" and isinstance(attack, FMN):
        attack = FMN(steps=attack.steps, step_size=1 / 201)
    x_adv = attack(model, x, y, threat)
    assert bool((model(x_adv).argmax(1) != y).all())
    share = threat.distance(x, x_adv) / exact(model, x, y, norm)
    assert float(share.min()) > 1 - 1e-9
    assert float(share.max()) < 1.05


@pytest.mark.parametrize(("attack", "norm"), LP, ids=str)
def test_nearest_point_of_a_target(attack, norm: str) -> None:
    model = exact_linear((30,), 2)
    x, y, _ = inputs(20, (30,), model)
    goal = Goal("targeted", 1 - y)
    threat = LpBall(norm, FAR[norm], (-100.0, 101.0) if norm == "l1" else (0.0, 1.0), goal)
    if norm == "l1" and isinstance(attack, FMN):
        attack = FMN(steps=attack.steps, step_size=1 / 201)
    x_adv = attack(model, x, y, threat)
    assert bool((model(x_adv).argmax(1) == 1 - y).all())
    share = threat.distance(x, x_adv) / exact(model, x, y, norm, goal)
    assert float(share.min()) > 1 - 1e-9
    assert float(share.max()) < 1.05


def sparse_case(shape: tuple[int, ...]) -> tuple[LinearModel, Tensor, Tensor]:
    size = int(torch.Size(shape).numel())
    weight = draws.normal(3, torch.arange(2), 0, (size,)).double()
    model = LinearModel(weight, -weight.sum(1) / 2).eval().requires_grad_(False)
    x = 0.3 + 0.4 * draws.uniform(4, torch.arange(20), 0, shape).double()
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("attack", L0, ids=str)
def test_fewest_pixels_of_a_linear_model(attack, grouped: bool) -> None:
    """The exact number: what each pixel can gain at its walls, the largest first."""
    model, x, y = sparse_case((3, 4, 5))
    threat = PixelBudget(1, grouped=grouped)
    slope = (model.weight[1 - y] - model.weight[y]).reshape(x.shape)
    room = torch.where(slope > 0, 1 - x, x)
    gains = threat.grid(slope.abs() * room).sum(1).sort(1, descending=True).values.cumsum(1)
    logits = model(x)
    need = (logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None]))[:, :1]
    fewest = (gains <= need).sum(1) + 1
    x_adv = attack(model, x, y, threat)
    assert bool((model(x_adv).argmax(1) != y).all())
    count = threat.distance(x, x_adv)
    assert bool((count >= fewest).all())
    assert float((count == fewest).double().mean()) >= 0.8
    assert float((count - fewest).max()) <= 2


@pytest.mark.parametrize(
    ("attack", "threat"),
    [
        *((attack, LpBall(norm, FAR[norm])) for attack, norm in LP),
        *((attack, PixelBudget(9)) for attack in L0),
    ],
    ids=str,
)
def test_a_row_that_cannot_be_won_comes_back_at_its_best(attack, threat) -> None:
    """Not black, not clean: foolbox's C&W returns zeros, adversarial-library the clean input."""

    class Hard(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([2 + 0 * x.flatten(1).sum(1), x.flatten(1).mean(1)], 1)

    x = torch.full((3, 1, 3, 3), 0.4, dtype=torch.float64)
    x_adv = attack(Hard(), x, torch.zeros(3, dtype=torch.int64), threat)
    assert bool(((x_adv >= 0) & (x_adv <= 1)).all())
    assert bool((x_adv.flatten(1).mean(1) > 0.4 + 1e-6).all())


def test_ddn_with_cross_entropy_between_two_classes() -> None:
    model = exact_linear((30,), 2)
    x, y, _ = inputs(20, (30,), model)
    threat = LpBall("l2", 100.0)
    share = threat.distance(x, DDN()(model, x, y, threat)) / exact(model, x, y, "l2")
    assert float(share.max()) < 1.01


@pytest.mark.parametrize(("attack", "norm"), LP, ids=str)
def test_a_row_won_before_comes_back_as_it_is(attack, norm: str) -> None:
    model = exact_linear((30,), 3)
    x, _, second = inputs(4, (30,), model)
    assert torch.equal(attack(model, x, second, LpBall(norm, FAR[norm])), x)


@pytest.mark.parametrize("attack", [CW(), DDN(steps=60), FMN(steps=60)], ids=str)
def test_pixels_at_the_walls_move(attack) -> None:
    """In torchattacks' C&W, pixels at exactly 0 or 1 stand at infinity and never move."""
    weight = torch.zeros(2, 4)
    weight[1, :2] = torch.tensor([1.0, -1.0])  # only the values at 0 and at 1 matter
    model = LinearModel(weight, torch.tensor([0.0, 0.7])).eval()
    x = torch.tensor([[0.0, 1.0, 0.5, 0.5]])
    x_adv = attack(model, x, torch.tensor([0]), LpBall("l2", 10.0))
    assert int(model(x_adv).argmax(1)) == 1
    assert float((x_adv - x).norm()) < 1.05 * 0.3 / 2**0.5


@pytest.mark.parametrize("shift", [0.0, -50.0])
def test_the_margin_is_true_for_negative_logits(shift: float) -> None:
    """In torchattacks' C&W the margin is 0 when all logits are negative."""
    model = exact_linear((30,), 3)
    moved = LinearModel(model.weight, model.bias + shift).eval().requires_grad_(False)
    x, y, _ = inputs(6, (30,), model)
    threat = LpBall("l2", 10.0)
    share = threat.distance(x, CW()(moved, x, y, threat)) / exact(model, x, y, "l2")
    assert float(share.max()) < 1.05


def test_confidence_is_kept_and_never_costs_a_win() -> None:
    model = exact_linear((30,), 3)
    x, y, _ = inputs(6, (30,), model)
    threat = LpBall("l2", 10.0)
    margin = threat.goal.objective(model(CW(steps=60, confidence=0.5)(model, x, y, threat)), y)
    assert float(margin.min()) > 0.5
    out_of_reach = CW(steps=60, confidence=1e6)(model, x, y, threat)
    assert bool((model(out_of_reach).argmax(1) != y).all())


def test_ddn_on_the_grid_of_a_file() -> None:
    model = exact_linear((30,), 3)
    x, y, _ = inputs(6, (30,), model)
    x = (x * 15).round() / 15
    x_adv = DDN(levels=16)(model, x, y, LpBall("l2", 10.0))
    assert torch.allclose((x_adv * 15).round() / 15, x_adv, rtol=0, atol=1e-12)
    assert bool((model(x_adv).argmax(1) != y).all())


def test_ddn_leaves_a_flat_start_at_random_by_row() -> None:
    """Where the gradient is zero a direction is drawn, keyed by row."""

    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            lead = ((x - 0.5).square().sum(1) - 0.01).clamp_min(0)
            return torch.stack([torch.full_like(lead, 0.1), lead], 1)

    x, y = torch.full((3, 8), 0.5), torch.zeros(3, dtype=torch.int64)
    threat, rows = LpBall("l2", 5.0), torch.tensor([4, 4, 9])
    x_adv = DDN(steps=30)(Flat(), x, y, threat, rows=rows)
    assert bool((Flat()(x_adv).argmax(1) == 1).all())
    assert torch.equal(x_adv[0], x_adv[1])
    assert not torch.equal(x_adv[0], x_adv[2])


@pytest.mark.parametrize(
    ("attack", "norm", "forwards", "backwards"),
    [
        (FMN(steps=7), "l2", 8, 7),
        (DDN(steps=7), "l2", 8, 7),
        (SigmaZero(steps=7), "l0", 8, 7),
        (FAB(steps=7, search=2), "l2", 1 + 8 + 2, 7),
    ],
    ids=str,
)
def test_one_forward_and_one_backward_a_step(attack, norm, forwards: int, backwards: int) -> None:
    model = exact_linear((30,), 2)
    x, y, _ = inputs(5, (30,), model)
    counted = Counted(model)
    attack(counted, x, y, PixelBudget(1) if norm == "l0" else LpBall(norm, 10.0))
    assert (counted.forwards, counted.backwards) == (5 * forwards, 5 * backwards)


def test_deepfool_looks_at_few_borders_after_the_first_step() -> None:
    model = exact_linear((30,), 10)
    x, y, _ = inputs(5, (30,), model)
    counted = Counted(model)
    DeepFool()(counted, x, y, LpBall("l2", 10.0))
    assert counted.backwards == 5 * 9  # a linear model takes one step
    far = Counted(lambda x: model(x).clamp_min(-1e9) ** 3)
    DeepFool(steps=3, overshoot=0.0)(far, x, y, LpBall("l2", 10.0))
    assert far.backwards <= 5 * (9 + 2 * 3)


def test_nearest_keeps_the_nearest_win_and_the_best_loss() -> None:
    x, y = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    near = Nearest(x, y, LpBall("l2", 1.0), None)

    def judge(points: list[float], objectives: list[float]) -> None:
        logits = torch.tensor([[0.0, value] for value in objectives])
        near.judge(torch.tensor([[p, 0.0] for p in points])[: len(near)], logits)

    judge([0.9, 0.2, 0.3], [1.0, -2.0, -1.0])
    judge([0.5, 0.1, 0.4], [0.1, -3.0, -0.5])  # nearer win; worse loss; better loss
    judge([0.1, 0.7, 0.5], [-1.0, 2.0, -0.6])  # nearer, but lost; won at last; worse loss
    assert near.best[:, 0].tolist() == pytest.approx([0.5, 0.7, 0.4])
    assert near.distance.tolist() == pytest.approx([0.5, 0.7, torch.inf])
    near.reopen(torch.tensor([False, True, True]))
    judge([0.6, 0.9], [1.0, 1.0])
    assert near.best[:, 0].tolist() == pytest.approx([0.5, 0.6, 0.9])
    near.keep(torch.tensor([False, True]))
    assert near.index.tolist() == [2]


def test_farthest_corner() -> None:
    x = torch.tensor([[0.2, 0.9, 0.5]])
    assert farthest_corner(x, (0.0, 1.0)).tolist() == [[1.0, 0.0, 1.0]]


def test_search_towards_x_finds_the_border_of_a_linear_model() -> None:
    model = exact_linear((30,), 2)
    x, y, second = inputs(4, (30,), model)
    near = Nearest(x, y, LpBall("l2", 100.0), None)
    far = (x + 0.4 * (model.weight[second] - model.weight[y]).sign()).clamp(0, 1)
    near.judge(far, model(far))
    search_towards_x(model, near, LpBall("l2", 1.0).goal.objective(model(x), y), 3)
    assert bool((model(near.best).argmax(1) != y).all())
    margin = LpBall("l2", 1.0).goal.objective(model(near.best), y)
    assert bool((margin < 0.01 * LpBall("l2", 1.0).goal.objective(model(far), y)).all())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: FMN(steps=0), r"steps >= 1, .*Got steps=0"),
        (lambda: FMN(shrink=0.0), r"last_shrink <= shrink < 1.*shrink=0\.0"),
        (lambda: FMN(loss="ce"), r"loss must be one of margin, selective: .*Got 'ce'"),
        (lambda: DDN(shrink=1.0), r"0 < shrink < 1.*shrink=1\.0"),
        (lambda: DDN(levels=1), r"levels must be 0 \(no grid\) or at least 2\. Got 1"),
        (lambda: DDN(loss="mse"), r"loss must be one of ce, .*Got 'mse'"),
        (lambda: CW(searches=0), r"searches >= 1.*searches=0"),
        (lambda: CW(confidence=-1.0), r"confidence must be a number >= 0\. Got -1\.0"),
        (lambda: CW(loss="ce"), r"loss must be one of margin, selective"),
        (lambda: SigmaZero(sigma=0.0), r"sigma, threshold and follow > 0.*sigma=0\.0"),
        (lambda: SigmaZero(loss="dlr"), r"Got 'dlr'"),
        (lambda: DeepFool(keep=0), r"keep >= 1.*keep=0"),
    ],
)
def test_impossible_parameters_are_refused(make, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("attack", "threat", "sentence"),
    [
        (DDN(), LpBall("linf", 0.1), r"DDN needs an L2 ball\. Got linf eps 0\.1"),
        (CW(), PixelBudget(1), r"CW needs an L2 ball\. Got 1 pixel"),
        (DeepFool(), LpBall("l1", 0.1), r"DeepFool needs an L-infinity or L2 ball\. Got l1"),
        (SigmaZero(), LpBall("l1", 0.1), r"SigmaZero needs a PixelBudget\. Got l1 eps 0\.1"),
        (FAB(), PixelBudget(2, grouped=False), r"FAB needs an .* ball\. Got 2 values"),
    ],
)
def test_a_threat_of_another_kind_is_refused(attack, threat, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        attack(lambda x: x, torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), threat)


def test_deepfool_on_a_model_without_gradients_says_what_to_do() -> None:
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="DeepFool needs gradients, and none reaches"):
        DeepFool()(lambda x: x.detach(), x, x.argmax(1), LpBall("l2", 1.0))


def test_grouped_or_not() -> None:
    x = torch.zeros(1, 3, 2, 2)
    x_adv = x.clone()
    x_adv[0, :, 1, 0] = 1
    assert PixelBudget(1).distance(x, x_adv).item() == 1
    values = PixelBudget(2, grouped=False)
    assert values.distance(x, x_adv).item() == 3
    assert not bool(values.contains(x, x_adv))
    assert bool(values.contains(x, values.project(x, x_adv)))
    assert values.to_dict()["grouped"] is False
    assert values.unbounded(x).pixels == 12
