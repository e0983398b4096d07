"""FGSM and PGD on models whose exact radius is known, and the bugs of the field (attacks.md §2)."""

import pytest
import torch

from buckler.attacks import EOT, FGSM, PGD
from buckler.attacks.perturb import perturb
from buckler.losses import cross_entropy
from buckler.threats import Goal, LpBall
from tests.attacks.exact_linear import CASES, Counting, exact_linear, inputs, radius

EXACT = [
    (FGSM(loss="ce"), "linf"),
    (FGSM(loss="margin"), "linf"),
    (FGSM(loss="margin"), "l2"),
    (PGD(loss="ce"), "linf"),
    (PGD(loss="margin"), "linf"),
    (PGD(loss="margin"), "l2"),
    (PGD(steps=1, step_size=1.0, loss="margin"), "linf"),
    (PGD(steps=1, step_size=1.0, loss="margin"), "l2"),
    (PGD(loss="ce", restarts=2, random_start=True), "linf"),
]


@pytest.mark.parametrize(("shape", "classes"), CASES)
@pytest.mark.parametrize(("attack", "norm"), EXACT, ids=lambda value: str(value)[:40])
def test_success_exactly_beyond_the_exact_radius(
    attack, norm: str, shape: tuple[int, ...], classes: int
) -> None:
    model = exact_linear(shape, classes)
    x, y, _ = inputs(25, shape, model)
    exact = radius(model, x, y, norm)
    for factor, wins in ((1.01, True), (0.99, False)):
        threat = LpBall(norm, factor * exact)
        x_adv = attack(model, x, y, threat, seed=3)
        assert bool(threat.contains(x, x_adv).all())
        assert ((model(x_adv).argmax(1) != y) == wins).all(), (factor, norm)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("attack", [FGSM(), PGD()])
def test_l2_by_cross_entropy_with_two_classes(attack, scale: float) -> None:
    model = exact_linear((30,), 2, scale)
    x, y, _ = inputs(25, (30,), model)
    exact = radius(model, x, y, "l2")
    for factor, wins in ((1.01, True), (0.99, False)):
        x_adv = attack(model, x, y, LpBall("l2", factor * exact))
        assert ((model(x_adv).argmax(1) != y) == wins).all()


@pytest.mark.parametrize("attack", [FGSM(), PGD()])
def test_l2_climbs_a_saturated_cross_entropy(attack) -> None:
    """The wrong class has p = 1e-26, and the squares of such gradients are zero in float32."""
    model = exact_linear((30,), 2, scale=100.0)
    x, y, other = inputs(10, (30,), model)
    slope = model.weight[y] - model.weight[other]
    gap = model(x).gather(1, y[:, None]) - model(x).gather(1, other[:, None])
    x = x + (60 - gap) * slope / slope.square().sum(1, keepdim=True)
    exact = radius(model, x, y, "l2").float()
    model, x = model.float(), x.float()
    assert float(cross_entropy(model(x), y, Goal()).max()) == 0
    # At first only the wrong class's half of the weights has a gradient: 1 / sqrt(2) of the way.
    x_adv = attack(model, x, y, LpBall("l2", 1.5 * exact))
    assert (model(x_adv).argmax(1) != y).all()


@pytest.mark.parametrize(("shape", "classes"), CASES)
@pytest.mark.parametrize(
    ("attack", "norm"),
    [(FGSM(), "linf"), (PGD(), "linf"), (FGSM(loss="margin"), "l2"), (PGD(loss="margin"), "l2")],
)
def test_targeted(attack, norm: str, shape: tuple[int, ...], classes: int) -> None:
    model = exact_linear(shape, classes)
    x, y, runner_up = inputs(25, shape, model)
    exact = radius(model, x, y, norm)
    for factor, wins in ((1.01, True), (0.99, False)):
        threat = LpBall(norm, factor * exact, goal=Goal("targeted", runner_up))
        x_adv = attack(model, x, y, threat)
        assert ((model(x_adv).argmax(1) == runner_up) == wins).all()


def test_one_target_for_all_rows() -> None:
    model = exact_linear((30,), 3)
    x, y, _ = inputs(25, (30,), model)
    x_adv = PGD(loss="margin")(model, x, y, LpBall("linf", 0.2, goal=Goal("targeted", 2)))
    assert (model(x_adv).argmax(1) == 2).all()


@pytest.mark.parametrize("attack", [FGSM(), PGD()])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_values_at_the_walls_move(attack, norm: str) -> None:
    """In torchattacks' C&W a pixel at exactly 0 or 1 never moves."""

    def model(x: torch.Tensor) -> torch.Tensor:
        inward = x[:, 1] - x[:, 0]  # x = (1, 0): only the way into the box helps
        return torch.stack([torch.full_like(inward, -1.8), 2 * inward], 1)

    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    x_adv = attack(model, x, y, LpBall(norm, 0.2))
    assert float(x_adv[0, 0]) < 1
    assert float(x_adv[0, 1]) > 0
    assert int(model(x_adv).argmax(1)) == 1


@pytest.mark.parametrize("attack", [FGSM(), PGD(), PGD(loss="margin")])
def test_all_negative_logits(attack) -> None:
    model = exact_linear((30,), 3)
    model.bias -= 1000
    x, y, _ = inputs(25, (30,), model)
    x_adv = attack(model, x, y, LpBall("linf", 1.01 * radius(model, x, y, "linf")))
    assert (model(x_adv).argmax(1) != y).all()


def overshoot(x: torch.Tensor) -> torch.Tensor:
    """The way to a win is a peak near x that stays below it; a full step goes far beyond."""
    return torch.stack([torch.zeros(len(x), dtype=x.dtype), -((x[:, 0] - 0.55) ** 2) - 0.01], 1)


@pytest.mark.parametrize(
    ("attack", "least"), [(FGSM(), -0.0125), (PGD(step_size=1.0), -0.0125), (PGD(), -0.0101)]
)
def test_a_lost_row_comes_back_as_the_best_point_found(attack, least: float) -> None:
    x, y = torch.full((2, 3), 0.5), torch.tensor([0, 0])
    x_adv = attack(overshoot, x, y, LpBall("linf", 0.4))
    assert bool((Goal().objective(overshoot(x_adv), y) >= least - 1e-6).all())


@pytest.mark.parametrize("attack", [FGSM(), PGD()])
def test_a_row_that_is_won_already_stays_won(attack) -> None:
    def valley(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([(x[:, 0] - 0.5) ** 2, 0 * x[:, 0] + 0.001], 1)

    x, y = torch.full((1, 2), 0.51), torch.tensor([0])
    x_adv = attack(valley, x, y, LpBall("linf", 0.3))
    assert int(valley(x_adv).argmax(1)) == 1


def test_won_rows_leave_the_batch() -> None:
    model = Counting(exact_linear((30,), 3))
    x, y, _ = inputs(20, (30,), model)
    model.rows = 0
    wrong = (y + 1) % 3
    y = torch.where(torch.arange(20) < 15, wrong, y)  # 15 rows are won at the start
    PGD(steps=10, restarts=2)(model, x, y, LpBall("linf", 1e-6))
    assert model.rows == 20 + 10 * 5 + 11 * 5


def test_a_restart_takes_up_lost_rows_only() -> None:
    model = Counting(exact_linear((30,), 3))
    x, y, _ = inputs(20, (30,), model)
    exact = radius(model.model, x, y, "linf")
    near = torch.arange(20) < 12
    eps = torch.where(near, 1.05 * exact, 0.5 * exact)
    model.rows = 0
    PGD(steps=1, step_size=1.0, restarts=4)(model, x, y, LpBall("linf", eps))
    assert model.rows == 20 + 20 + 3 * 2 * 8


def test_no_rows_no_calls() -> None:
    model = Counting(exact_linear((30,), 3))
    x = torch.zeros(0, 30)
    for attack in (FGSM(), PGD(restarts=3)):
        assert attack(model, x, torch.zeros(0, dtype=torch.long), LpBall("l2", 1)).shape == (0, 30)
    assert model.calls == 0


def far_away(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([0 * x[:, 0] + 100, x[:, 0]], 1)


@pytest.mark.parametrize(("decay", "last"), [(False, 1.0), (True, 0.19)])
def test_the_steps_are_fractions_of_eps(decay: bool, last: float) -> None:
    """With decay they shrink linearly from 1 to 1/10 over the run."""
    model = Counting(far_away)
    threat = LpBall("linf", 0.4)
    attack = PGD(steps=10, step_size=0.01, loss="margin", decay=decay)
    attack(model, torch.zeros(1, 1), torch.tensor([0]), threat)
    places = torch.cat(model.seen).flatten()
    assert len(places) == 11, "ten gradients, and the last iterate judged"
    moves = places.diff()
    assert float(moves[0]) == pytest.approx(0.01 * 0.4, rel=1e-4)
    assert float(moves[-1]) == pytest.approx(0.01 * 0.4 * last, rel=1e-3)


@pytest.mark.parametrize("random_start", [False, True])
def test_where_the_restarts_begin(random_start: bool) -> None:
    model = Counting(far_away)
    x = torch.full((1, 1), 0.5)
    attack = PGD(steps=1, restarts=3, random_start=random_start)
    attack(model, x, torch.tensor([0]), LpBall("linf", 0.4))
    starts = torch.stack(model.seen[::2]).flatten()
    assert bool(starts[0] == 0.5) is not random_start
    assert len(starts.unique()) == 3


def barrier(x: torch.Tensor) -> torch.Tensor:
    """Two classes left and right, and a detector that rejects the stretch between: (n, 3)."""
    place = x[:, 0]
    rejected = 6 * torch.exp(-(((place - 0.5) / 0.12) ** 2)) - 3
    return torch.stack([0.5 - place, place - 0.5, rejected], 1)


def test_a_pool_leads_round_a_barrier() -> None:
    x, y = torch.tensor([[0.3], [0.25]]), torch.tensor([0, 0])
    threat = LpBall("linf", 0.5, goal=Goal("guarded"))
    assert (barrier(x).argmax(1) == 0).all()
    alone = PGD(loss="margin", step_size=0.05)(barrier, x, y, threat)
    assert (barrier(alone).argmax(1) != 1).all(), "the barrier must hold a plain climb off"
    pool = torch.tensor([[0.1], [0.5], [0.95], [0.78]])  # of class 0, rejected, and winning twice
    seen = Counting(barrier)
    x_adv = PGD(steps=1, loss="margin", pool=pool)(seen, x, y, threat)
    assert (barrier(x_adv).argmax(1) == 1).all()
    assert bool(threat.contains(x, x_adv).all())
    torch.testing.assert_close(seen.seen[1].flatten(), torch.tensor([0.78, 0.75]))


def test_later_restarts_take_the_next_nearest_of_the_pool() -> None:
    model = Counting(far_away)
    pool = torch.tensor([[0.9], [0.2], [0.6]])
    goal = Goal("targeted", 0)  # class 0 always wins, with each input of the pool

    def never(x: torch.Tensor) -> torch.Tensor:
        logits = model(x)
        return logits if len(x) == 3 else logits.flip(1)

    attack = PGD(steps=1, step_size=1e-6, restarts=4, pool=pool)
    attack(never, torch.tensor([[0.5]]), torch.tensor([1]), LpBall("linf", 0.5, goal=goal))
    starts = [round(float(x), 3) for x in model.seen[1::2]]
    assert starts == [0.6, 0.2, 0.9, 0.9]


def test_a_pool_without_a_winner_starts_at_x() -> None:
    model = Counting(far_away)
    x = torch.tensor([[0.5]])
    PGD(steps=1, pool=torch.zeros(2, 1))(model, x, torch.tensor([0]), LpBall("linf", 0.1))
    assert torch.equal(model.seen[1], x)


def test_eot_is_the_mean_of_its_draws() -> None:
    weight = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    draws = tuple(lambda x, w=w: x @ w for w in weight)
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(EOT(draws)(x), x @ weight.mean(0))


def test_eot_is_the_mean_log_probability_up_to_a_constant_a_row() -> None:
    weight = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
    mean = EOT(tuple(lambda x, w=w: x @ w for w in weight))(x)
    log_probs = EOT(tuple(lambda x, w=w: (x @ w).log_softmax(1) for w in weight))(x)
    torch.testing.assert_close(mean.log_softmax(1), log_probs.log_softmax(1))
    assert torch.equal(mean.argmax(1), log_probs.argmax(1))


def test_pgd_climbs_the_mean_where_one_draw_misleads() -> None:
    """Nine draws rise to the right by 1, one falls by 5: the mean rises, that one draw does not."""
    slopes = torch.tensor([-5.0, *[1.0] * 9])

    def one(slope: torch.Tensor):
        return lambda x: torch.stack([0 * x[:, 0], slope * (x[:, 0] - 0.6)], 1)

    x, y, threat = torch.full((1, 1), 0.5), torch.tensor([0]), LpBall("linf", 0.2)
    model = EOT(tuple(one(slope) for slope in slopes))
    assert int(model(PGD()(model, x, y, threat)).argmax(1)) == 1
    misled = PGD()(one(slopes[0]), x, y, threat)
    assert int(model(misled).argmax(1)) == 0, "to the one draw x itself is a win"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_perturb_climbs_past_a_win_and_stays_inside(norm: str) -> None:
    model = exact_linear((5, 6), 3).float()
    x, y, _ = inputs(12, (5, 6), model)
    x, rows = x.float(), 7 * torch.arange(12)
    exact = radius(model, x, y, norm)
    threat = LpBall(norm, 3 * exact)
    options = {"steps": 12, "step_size": 0.25, "seed": 1}
    x_adv = perturb(model, x, y, threat, rows=rows, **options)
    assert bool(threat.contains(x, x_adv).all())
    assert not x_adv.requires_grad
    assert (model(x_adv).argmax(1) != y).all()
    first = PGD()(model, x, y, threat)
    higher = cross_entropy(model(x_adv), y, Goal()) > cross_entropy(model(first), y, Goal())
    assert bool(higher.all()), "PGD stops at its first win, training wants the highest loss"
    some = torch.tensor([8, 2])
    alone = perturb(model, x[some], y[some], threat.take(some), rows=rows[some], **options)
    torch.testing.assert_close(alone, x_adv[some], rtol=0, atol=1e-5)
