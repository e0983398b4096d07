"""Transfer: what is climbed on, what the target is asked, and an oracle for each of its ideas."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from buckler import draws
from buckler.attacks.transfer import Transfer, shrink, smooth
from buckler.errors import UsageError
from buckler.models import Counted
from buckler.testing import check_attack
from buckler.threats import Goal, LpBall, PixelBudget
from tests.attacks.exact_linear import Counting, exact_linear, inputs
from tests.conftest import TinyNet, blobs

PLAIN = {"diversity": 0.0, "kernel": 0, "copies": 1}
SHAPE = (1, 6, 5)
MODEL = exact_linear(SHAPE, 3)
X, Y, _ = inputs(8, SHAPE, MODEL)
EACH = Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0]))


@dataclass(frozen=True)
class OnItself:
    """The attack with the target as its own surrogate."""

    attack: Transfer
    name: str = "Transfer"

    def __call__(self, model, x, y, threat, *, seed=0, rows=None) -> Tensor:
        own = replace(self.attack, surrogates=(model,))
        return own(model, x, y, threat, seed=seed, rows=rows)


@pytest.mark.parametrize(
    ("attack", "threat", "shape"),
    [
        (Transfer((MODEL,), steps=4, **PLAIN), LpBall("linf", 0.1), (24,)),
        (Transfer((MODEL,), steps=4, kernel=3, ask_every=1), LpBall("linf", 0.1), (1, 5, 6)),
        (Transfer((MODEL,), steps=4, kernel=3, ask_every=2), LpBall("l2", 0.4), (3, 4, 7)),
        (Transfer((MODEL,), steps=4, kernel=3, ask_every=1), LpBall("l1", 0.8), (6, 5)),
        (
            Transfer((MODEL,), steps=4, copies=2, kernel=1, ask_every=1, ensemble="losses"),
            LpBall("linf", 0.5, (-3.0, 2.0), goal=EACH),
            (1, 5, 6),
        ),
    ],
)
def test_contract(attack: Transfer, threat: LpBall, shape: tuple[int, ...]) -> None:
    check_attack(OnItself(attack), threat, shape=shape)


def test_on_a_linear_surrogate_every_value_ends_at_the_ball_s_edge() -> None:
    """One direction all along: momentum changes nothing, ten steps of 0.1 fill the ball."""
    threat = LpBall("linf", 0.05)
    goal = Goal("targeted", (Y + 1) % 3)
    attack = Transfer((MODEL,), loss="pair", **PLAIN)
    x_adv = attack(MODEL, X, Y, threat.with_goal(goal))
    slope = MODEL.weight[(Y + 1) % 3] - MODEL.weight[Y]
    torch.testing.assert_close(x_adv, X + 0.05 * slope.sign().view_as(X))


def test_momentum_keeps_the_gradients_of_the_steps_before() -> None:
    """A slope of +4 up to 0.6 and −1 beyond, at one value: plain steps turn there, momentum does
    not turn at once. (The other value keeps each gradient at a mean of its own.)"""

    def surrogate(x: Tensor) -> Tensor:
        up = torch.where(x[:, 0] < 0.6, 4 * x[:, 0], 3.0 - x[:, 0]) + 1e-3 * x[:, 1]
        return torch.stack([torch.zeros_like(up), up], 1)

    x, y, threat = torch.tensor([[0.45, 0.5]]), torch.tensor([0]), LpBall("linf", 0.4)
    ends = {}
    for momentum in (0.0, 1.0):
        attack = Transfer((surrogate,), steps=6, loss="margin", momentum=momentum, **PLAIN)
        ends[momentum] = float(attack(surrogate, x, y, threat)[0, 0])
    # Steps of 0.04: over 0.6 with the fourth, 0.61; then down and up again, or on while 4 > 1 + 1.
    assert ends[0.0] == pytest.approx(0.61, abs=0.041)
    assert ends[1.0] > ends[0.0] + 0.03


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.2)])
def test_a_row_without_a_gradient_stays_and_disturbs_no_other(norm: str, eps: float) -> None:
    """Its mean absolute gradient is zero, and it is what gradients are divided by."""

    def surrogate(x: Tensor) -> Tensor:
        return MODEL(x) * (x[:, 0, 0, :1] > 0.47)

    threat = LpBall(norm, eps)
    x_adv = Transfer((surrogate,), **PLAIN)(MODEL, X, Y, threat)
    flat = (X[:, 0, 0, 0] <= 0.47).nonzero()[:, 0]
    assert 0 < len(flat) < 8
    assert bool(torch.isfinite(x_adv).all())
    assert torch.equal(x_adv[flat], X[flat])
    rest = [row for row in range(8) if row not in flat.tolist()]
    alone = Transfer((surrogate,), **PLAIN)(MODEL, X[rest], Y[rest], threat)
    assert torch.equal(alone, x_adv[rest])


def never(x: Tensor) -> Tensor:
    """Class 0, whatever is sent."""
    return torch.stack([1 + 0 * x.flatten(1).sum(1), 0 * x.flatten(1).sum(1)], 1)


@pytest.mark.parametrize(("ask_every", "queries"), [(0, 1), (1, 11), (4, 4), (10, 2), (50, 2)])
def test_queries_a_row_are_exact_and_no_gradient_of_the_target_is_asked(
    ask_every: int, queries: int
) -> None:
    target, y = Counted(never), torch.zeros(8, dtype=torch.int64)
    Transfer((MODEL,), ask_every=ask_every, **PLAIN)(target, X, y, LpBall("linf", 0.1))
    assert (target.forwards, target.backwards) == (8 * queries, 0)
    alone = Counted(never)
    Transfer((MODEL,), ask_every=ask_every, **PLAIN)(alone, X[:1], y[:1], LpBall("linf", 0.1))
    assert alone.forwards == queries


def test_the_surrogate_is_asked_for_every_copy_and_step() -> None:
    surrogate = Counted(MODEL)
    Transfer((surrogate,), steps=7, kernel=3, copies=4)(never, X, Y * 0, LpBall("linf", 0.1))
    assert surrogate.forwards == surrogate.backwards == 7 * 4 * 8


def test_rows_that_are_won_leave_when_the_target_says_so() -> None:
    surrogate, threat = Counted(MODEL), LpBall("linf", 0.2)
    x_adv = Transfer((surrogate,), ask_every=1, **PLAIN)(MODEL, X, Y, threat)
    assert bool((MODEL(x_adv).argmax(1) != Y).all())
    assert surrogate.forwards < 10 * 8
    assert float(threat.distance(X, x_adv).max()) < 0.15, "the first point that won"


def test_the_best_point_that_was_asked_comes_back() -> None:
    """A surrogate that leads astray: x is the best point the target was shown."""

    def astray(x: Tensor) -> Tensor:
        return -MODEL(x)

    threat = LpBall("linf", 0.05)
    asked = Transfer((astray,), ask_every=3, **PLAIN)(MODEL, X, Y, threat)
    assert torch.equal(asked, X)
    unasked = Transfer((astray,), **PLAIN)(MODEL, X, Y, threat)
    assert float(threat.distance(X, unasked).min()) > 0.01


def test_the_target_needs_no_gradient_and_may_have_another_view() -> None:
    """A guard's k + 1 view over a plain surrogate: climbed to Goal(), judged as guarded."""

    def guard(x: Tensor) -> Tensor:
        z = torch.from_numpy(MODEL(x).detach().numpy())
        return torch.cat([z, z.amax(1, True) - 1], 1)

    threat = LpBall("linf", 0.2, goal=Goal("guarded"))
    x_adv = Transfer((MODEL,), goal=Goal(), ask_every=1, **PLAIN)(guard, X, Y, threat)
    assert bool((threat.goal.objective(guard(x_adv), Y) > 0).all())


@pytest.mark.parametrize("ensemble", ["logits", "losses"])
def test_an_ensemble_averages_logits_or_losses(ensemble: str) -> None:
    """One L2 step goes along the gradient, which differs: a sure net's loss drowns the other's."""
    nets = tuple(TinyNet(seed).double().eval().requires_grad_(False) for seed in (1, 2))
    models = (lambda x: 30 * nets[0](x), nets[1])
    x = blobs(6)[0].double()
    y = nets[0](x).argmax(1)
    z = x.clone().requires_grad_(True)
    logits = [model(z) for model in models]
    if ensemble == "logits":
        value = functional.cross_entropy((logits[0] + logits[1]) / 2, y, reduction="sum")
    else:
        value = sum(functional.cross_entropy(each, y, reduction="sum") for each in logits)
    grad = torch.autograd.grad(value, z)[0]
    attack = Transfer(models, steps=1, step_size=1.0, ensemble=ensemble, **PLAIN)
    moved = attack(nets[1], x, y, LpBall("l2", 1e-3)) - x
    same = functional.cosine_similarity(moved.flatten(1), grad.flatten(1))
    inside = ((x + 1e-3 * grad.sign()).clamp(0, 1) == x + 1e-3 * grad.sign()).flatten(1).all(1)
    assert bool(inside.any())
    torch.testing.assert_close(same[inside], torch.ones_like(same[inside]))


def test_copies_are_halved_towards_the_low_end_of_the_box() -> None:
    seen = Counting(MODEL)
    threat = LpBall("linf", 0.1, (-1.0, 1.0))
    attack = Transfer((seen,), steps=1, copies=3, diversity=0.0, kernel=0)
    attack(MODEL, X, Y, threat)
    for copy, got in enumerate(seen.seen[0].split(8)):
        torch.testing.assert_close(got, -1 + (X + 1) / 2**copy)


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 9, 14)])
def test_shrink_is_a_resize_and_a_pad_row_by_row(shape: tuple[int, ...]) -> None:
    n, (_, height, width) = 40, shape
    images = draws.uniform(0, torch.arange(n), 0, shape).double()
    u = draws.uniform(1, torch.arange(n), 0, (3,))
    out = shrink(images, u, 0.5)
    sizes = set()
    for row in range(n):
        share, down, across = u[row].tolist()
        tall, wide = (full // 2 + int(share * (full - full // 2)) for full in (height, width))
        top, left = int(down * (height - tall + 1)), int(across * (width - wide + 1))
        small = functional.interpolate(images[row : row + 1], (tall, wide), mode="bilinear")
        pad = (left, width - wide - left, top, height - tall - top)
        torch.testing.assert_close(out[row : row + 1], functional.pad(small, pad))
        sizes.add((tall, top, left))
    torch.testing.assert_close(shrink(images, u, 1.0), images)
    assert len(sizes) > 20, "every row draws its own size and place"
    assert {tall for tall, _, _ in sizes} == set(range(height // 2, height))


def test_every_step_and_copy_draws_anew() -> None:
    """The same point is seen otherwise by each copy and in each step (step_size next to none)."""
    seen = Counting(MODEL)
    attack = Transfer((seen,), steps=3, step_size=1e-9, diversity=1.0, resize=0.4, copies=2)
    attack(MODEL, X, Y, LpBall("linf", 0.1))
    looks = [part * 2**copy for step in seen.seen for copy, part in enumerate(step.split(8))]
    for first in range(6):
        for second in range(first):
            same = torch.isclose(looks[first], looks[second], atol=1e-6).flatten(1).all(1)
            assert float(same.double().mean()) < 0.7


def test_diversity_is_the_chance_that_a_row_is_resized() -> None:
    x = X.repeat(100, 1, 1, 1)
    seen = Counting(MODEL)
    attack = Transfer((seen,), steps=1, diversity=0.3, resize=0.5, copies=1, kernel=0)
    attack(MODEL, x, Y.repeat(100), LpBall("linf", 0.1))
    given = torch.cat(seen.seen)
    share = float((given != x).flatten(1).any(1).double().mean())
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 800) ** 0.5  # four standard errors


@pytest.mark.parametrize("shape", [(2, 1, 9, 11), (2, 3, 9, 11), (2, 9, 11)])
def test_smoothing_spreads_a_point_as_a_gaussian_in_every_channel(shape: tuple[int, ...]) -> None:
    point = torch.zeros(shape).double()
    point[..., 4, 5] = 1.0
    out = smooth(point, 5)
    at = torch.tensor([-3.0, -1.5, 0.0, 1.5, 3.0]).double()
    line = torch.exp(-(at**2) / 2)
    expected = torch.zeros_like(point)
    expected[..., 2:7, 3:8] = line[:, None] * line[None] / line.sum() ** 2
    torch.testing.assert_close(out, expected)
    assert torch.equal(smooth(point, 1), point)


def _fitted(seed: int) -> nn.Module:
    x, y = blobs(300, seed)
    net = TinyNet(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


def test_between_two_trained_nets_it_wins_far_more_than_noise_of_its_size() -> None:
    target, surrogates = _fitted(0), (_fitted(1), _fitted(2))
    x, y = blobs(200, 9)
    threat = LpBall("linf", 0.15)

    def wins(x_adv: Tensor) -> float:
        return float((target(x_adv).argmax(1) != y).double().mean())

    coin = torch.where(draws.uniform(0, torch.arange(200), 0, (1, 8, 8)) < 0.5, -1.0, 1.0)
    noise = wins((x + 0.15 * coin).clamp(0, 1))
    for attack in (Transfer(surrogates, **PLAIN), Transfer(surrogates, kernel=3)):
        assert wins(attack(target, x, y, threat)) > noise + 0.3


def test_what_is_refused() -> None:
    line, y = torch.rand(3, 6), torch.zeros(3, dtype=torch.int64)
    for options in ({"kernel": 0}, {"diversity": 0.0}):
        with pytest.raises(UsageError, match=r"for images .* Got inputs of shape \(6,\): set"):
            Transfer((never,), **options)(never, line, y, LpBall("linf", 0.1))
    with pytest.raises(UsageError, match=r"needs an L-infinity, L2 or L1 ball\. Got 1 pixel"):
        Transfer((never,))(never, X, Y, PixelBudget(1))
    with pytest.raises(UsageError, match="needs gradients, and none reaches"):
        Transfer((lambda x: MODEL(x).detach(),), **PLAIN)(MODEL, X, Y, LpBall("linf", 0.1))
    assert Transfer((MODEL,))(MODEL, X[:0], Y[:0], LpBall("linf", 0.1)).shape == (0, *SHAPE)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"surrogates": ()}, "at least one surrogate to climb on. Got none"),
        ({"steps": 0}, r"steps >= 1, .*Got steps=0"),
        ({"step_size": 0.0}, r"step_size > 0 .*step_size=0\.0"),
        ({"copies": 0}, r"copies >= 1.*copies=0"),
        ({"ask_every": -1}, r"ask_every >= 0.*ask_every=-1"),
        ({"momentum": -1.0}, r"momentum >= 0, .*Got momentum=-1\.0"),
        ({"diversity": 1.5}, r"diversity in \[0, 1\].*diversity=1\.5"),
        ({"resize": 0.0}, r"resize in \(0, 1\].*resize=0\.0"),
        ({"kernel": 4}, r"kernel must be odd, or 0 for none\. Got 4"),
        ({"ensemble": "votes"}, r"ensemble must be one of logits, losses\. Got 'votes'"),
        ({"loss": "mse"}, r"loss must be one of ce, .*Got 'mse'"),
        ({"goal": EACH}, r"one for all rows: .*Got Goal\(kind='targeted'"),
    ],
)
def test_impossible_parameters_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Transfer(**{"surrogates": (MODEL,), **options})
