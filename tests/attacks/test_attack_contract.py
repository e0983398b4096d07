"""Every attack through the one contract, and the sentences they share."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from buckler.attacks import (
    APGD,
    CAPGD,
    FGSM,
    MOEVA,
    PGD,
    Enumerate,
    OnePixel,
    PriceSearch,
    Square,
    suites,
)
from buckler.attacks.engine import ActiveSet, checked, gradient, logits_of
from buckler.errors import UsageError
from buckler.models import EstimatorClassifier
from buckler.testing import check_attack
from buckler.threats import Goal, LpBall, PixelBudget
from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Rule

LINF, L2, L1, PIXEL = LpBall("linf", 0.1), LpBall("l2", 0.4), LpBall("l1", 1.0), PixelBudget(1)
EACH = Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0]))
GREY, COLOUR, PLANE, LINE = (1, 5, 6), (3, 4, 7), (6, 5), (24,)
POOL = torch.linspace(0, 1, 6 * 30).reshape(6, *GREY)
PLAIN = FeatureSpec(
    tuple(Feature(f"f{i}", "real", 0.0, 1.0, change="any" if i % 4 else "none") for i in range(24)),
    (Rule("f5 <= f1"), Rule("f2 + f3 <= 1.9")),
)
FEATURES = FeatureThreat(PLAIN, 0.6, "l2")
ENDS = tuple(torch.tensor([0.0, 1.0]).double() for _ in range(24))
SMALL = {"population": 12, "generations": 3}

CONTRACT = [  # a new attack joins by one line
    (FGSM(), LINF, GREY),
    (FGSM(loss="margin"), L2, COLOUR),
    (FGSM(), LpBall("linf", 0.1, goal=EACH), LINE),
    (FGSM(loss="dlr"), LpBall("linf", 0.5, (-3.0, 2.0)), PLANE),
    (PGD(steps=6), LINF, GREY),
    (PGD(steps=6, loss="margin", decay=True), L2, COLOUR),
    (PGD(steps=6, loss="dlr", restarts=2, random_start=True), LINF, PLANE),
    (PGD(steps=6, restarts=3, random_start=True), L2, LINE),
    (PGD(steps=6), LpBall("l2", 0.4, goal=EACH), GREY),
    (PGD(steps=6), LpBall("linf", 0.1, goal=Goal("guarded")), GREY),
    (PGD(steps=6), LpBall("linf", 0.1, goal=Goal("denial")), GREY),
    (PGD(steps=6, restarts=2, pool=POOL), LINF, GREY),
    (PGD(steps=6), LpBall("linf", 0.1, (0.0, 0.5)), GREY),
    (PGD(steps=6), LpBall("l2", 0.3, (0.0, 255.0)), GREY),
    (PGD(steps=1, step_size=1.0), LINF, GREY),
    (PGD(steps=6, restarts=2), L1, COLOUR),
    (PGD(steps=6, momentum=1.0, loss="probability"), LINF, GREY),
    (PGD(steps=6, step_size=0.5, restarts=2), PixelBudget(3), COLOUR),
    (FGSM(start="ball", step_size=1.25), LINF, GREY),
    (FGSM(start="noise"), LINF, COLOUR),
    (FGSM(), L1, GREY),
    (APGD(steps=12), LINF, GREY),
    (APGD(steps=12, loss="dlr", restarts=2), L2, COLOUR),
    (APGD(steps=12, loss="dlr", targets=2), LpBall("linf", 0.05), PLANE),
    (APGD(steps=12, loss="margin", targets=9), LpBall("l2", 0.2, goal=Goal("guarded")), GREY),
    (APGD(steps=12, loss="ce"), LpBall("linf", 0.1, goal=EACH), LINE),
    (APGD(steps=12, targets=2, loss="dlr", widen=True), L1, COLOUR),
    (APGD(steps=12, loss="dlr", restarts=2, targets=2, together=3), LINF, COLOUR),
    (APGD(steps=30, restarts=2), LpBall("l1", 3.0, (-1.0, 1.0)), LINE),
    (Square(queries=40), LINF, GREY),
    (Square(queries=40), LpBall("linf", 0.1, goal=EACH), COLOUR),
    (Square(queries=40), LpBall("linf", 0.3, (-1.0, 2.0)), PLANE),
    (Square(queries=40, p=0.1), LINF, LINE),
    (OnePixel(**SMALL), PIXEL, GREY),
    (OnePixel(**SMALL), PixelBudget(3, goal=EACH), COLOUR),
    (OnePixel(**SMALL), PixelBudget(2, (-0.1, 0.3)), PLANE),
    (OnePixel(**SMALL), PIXEL, LINE),
    (OnePixel(**SMALL), PixelBudget(2, grouped=False), COLOUR),
    (CAPGD(steps=6), FEATURES, LINE),
    (CAPGD(steps=4, restarts=1), FeatureThreat(PLAIN, 3, "changes"), LINE),
    (PriceSearch(width=2, depth=2, tries=6, points=3), FEATURES, LINE),
    (MOEVA(population=8, generations=3), FEATURES, LINE),
    (Enumerate(values=ENDS), FeatureThreat(PLAIN, 2, "changes", goal=EACH), LINE),
]


@pytest.mark.parametrize(
    ("attack", "threat", "shape"), CONTRACT, ids=lambda value: getattr(value, "name", str(value))
)
def test_contract(attack, threat, shape: tuple[int, ...]) -> None:
    check_attack(attack, threat, shape=shape)


ONE_EACH = [(FGSM(), LINF), (PGD(steps=2), L2), (Square(5), LINF), (OnePixel(**SMALL), PIXEL)]
IDS = ["FGSM", "PGD", "Square", "OnePixel"]
X, Y = torch.full((3, 1, 4, 4), 0.5), torch.tensor([0, 1, 2])


def linear(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1)[:, :3]


@pytest.mark.parametrize(("attack", "threat"), ONE_EACH, ids=IDS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused(attack, threat, value: float) -> None:
    with pytest.raises(
        UsageError, match=r"logits that are NaN or infinite: an attack cannot climb"
    ):
        attack(lambda x: linear(x) * value, X, Y, threat)


@pytest.mark.parametrize(("attack", "threat"), ONE_EACH, ids=IDS)
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda x: x.flatten(1)[:, 0], r"\(\d+,\) for \d+ rows"),
        (lambda x: x.flatten(1)[:, :1], r"\(\d+, 1\) for \d+ rows"),
        (lambda x: linear(x)[:1], r"\(1, 3\) for \d+ rows"),
    ],
)
def test_outputs_of_another_shape_are_refused(attack, threat, model, shape: str) -> None:
    with pytest.raises(UsageError, match=r"logits of shape \(n, k\), k >= 2\. Got " + shape):
        attack(model, X, Y, threat)


@pytest.mark.parametrize(("attack", "threat"), ONE_EACH, ids=IDS)
@pytest.mark.parametrize(("labels", "rows"), [(2, 3), (3, 4), (1, 3)])
def test_lengths_must_agree(attack, threat, labels: int, rows: int) -> None:
    with pytest.raises(UsageError, match=rf"one entry a row\. Got 3, {labels}, {rows}"):
        attack(linear, X, Y[:labels], threat, rows=torch.arange(rows))


@pytest.mark.parametrize(
    ("attack", "threat", "sentence"),
    [
        (FGSM(), PIXEL, "FGSM needs an L-infinity, L2 or L1 ball. Got 1 pixel"),
        (APGD(), PIXEL, "APGD needs an L-infinity, L2 or L1 ball. Got 1 pixel"),
        (APGD(widen=True), L2, r"widen is for an L1 ball. Got l2 eps 0\.4"),
        (Square(), PIXEL, "Square needs an L-infinity, L2 or L1 ball. Got 1 pixel"),
        (OnePixel(), LINF, r"OnePixel needs a PixelBudget\. Got linf eps 0\.1"),
    ],
)
def test_a_threat_of_another_kind_is_refused(attack, threat, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        attack(linear, X, Y, threat)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: PGD(steps=0), r"steps >= 1, .*Got steps=0"),
        (lambda: PGD(restarts=0), r"restarts >= 1.*restarts=0"),
        (lambda: PGD(step_size=0.0), r"step_size > 0 \(a fraction of eps\).*step_size=0\.0"),
        (lambda: PGD(step_size=float("nan")), "step_size=nan"),
        (
            lambda: PGD(loss="mse"),
            r"loss must be one of ce, margin, dlr, pair, probability, selective\. Got 'mse'",
        ),
        (lambda: PGD(momentum=-1.0), r"momentum must be >= 0\. Got -1\.0"),
        (lambda: FGSM(start="y"), "start must be x, ball or noise. Got 'y'"),
        (lambda: FGSM(step_size=0), "step_size must be > 0"),
        (lambda: APGD(steps=0), r"steps, restarts and together >= 1.*Got steps=0"),
        (lambda: APGD(together=0), "together=0"),
        (lambda: APGD(rho=2.0), r"0 < rho <= 1\. .*rho=2\.0"),
        (lambda: APGD(loss="mse"), "loss must be one of"),
        (
            lambda: FGSM(loss="mse"),
            r"loss must be one of ce, margin, dlr, pair, probability, selective\. Got 'mse'",
        ),
        (lambda: Square(queries=0), r"queries >= 1 and 0 < p <= 1\. Got queries=0, p=0\.8"),
        (lambda: Square(p=0.0), r"Got queries=1000, p=0\.0"),
        (lambda: Square(p=1.1), r"Got queries=1000, p=1\.1"),
        (lambda: OnePixel(population=3), "population >= 4 and generations >= 0. Got population=3"),
        (lambda: OnePixel(generations=-1), "generations=-1"),
    ],
)
def test_impossible_parameters_are_refused(make, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make()


def forest() -> tuple[EstimatorClassifier, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    x = rng.random((200, 12)).astype(np.float32)
    y = (x[:, 0] > 0.5).astype(int) + (x[:, 1] > 0.5)
    model = EstimatorClassifier(RandomForestClassifier(10, random_state=0).fit(x, y))
    return model, torch.from_numpy(x[:20]), torch.from_numpy(y[:20])


@pytest.mark.parametrize(("attack", "threat"), ONE_EACH[:2], ids=IDS[:2])
def test_gradient_attacks_on_a_forest_say_what_to_do(attack, threat) -> None:
    with pytest.raises(
        UsageError, match=r"needs gradients, and none reaches .*\(Square, OnePixel\)"
    ):
        attack(*forest(), threat)


@pytest.mark.parametrize(
    ("attack", "threat"),
    [(Square(150), LpBall("linf", 0.4)), (OnePixel(20, 10), PixelBudget(2))],
)
def test_black_box_attacks_work_on_a_forest(attack, threat) -> None:
    model, x, y = forest()
    x_adv = attack(model, x, y, threat)
    right = model(x).argmax(1) == y
    fooled = right & (model(x_adv).argmax(1) != y)
    assert bool(threat.contains(x, x_adv).all())
    assert int(fooled.sum()) >= 0.5 * int(right.sum())


def test_a_gradient_that_is_no_number_is_refused() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(UsageError, match="gradient is NaN or infinite: an attack that steps along"):
        PGD()(torch.sqrt, x, torch.tensor([0, 1]), LINF)


def test_gradient_leaves_the_graph_and_gives_its_logits() -> None:
    x = torch.rand(4, 3, requires_grad=True)
    grad, logits = gradient(
        lambda z: z**2, x, torch.zeros(4).long(), Goal(), lambda z, y, goal: z[:, 0]
    )
    assert torch.equal(logits, (x**2).detach())
    assert torch.equal(grad[:, 0], 2 * x[:, 0].detach())
    assert not grad.requires_grad
    assert not logits.requires_grad
    assert x.grad is None


def test_gradient_works_where_gradients_are_off() -> None:
    with torch.no_grad():
        grad, _ = gradient(
            lambda z: z**2,
            torch.ones(1, 3),
            torch.tensor([0]),
            Goal(),
            lambda z, y, goal: z.sum(1),
        )
    assert torch.equal(grad, 2 * torch.ones(1, 3))


def test_logits_of_keeps_no_graph() -> None:
    weight = torch.ones(3, 2, requires_grad=True)
    assert not logits_of(lambda x: x @ weight, torch.ones(1, 3)).requires_grad
    assert checked(torch.ones(2, 2), torch.ones(2, 5)).shape == (2, 2)


def test_active_set_drops_won_rows_and_keeps_the_best_points() -> None:
    x, y = torch.zeros(3, 1), torch.zeros(3, dtype=torch.long)
    threat = LpBall("linf", torch.tensor([0.1, 0.2, 0.3]), goal=Goal())
    active = ActiveSet(x, y, threat, torch.tensor([10, 11, 12]))
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]])  # row 1 is won
    stay = active.judge(torch.tensor([[0.1], [0.2], [0.3]]), logits)
    assert stay.tolist() == [True, False, True]
    assert active.rows.tolist() == [10, 12]
    assert active.threat.eps.tolist() == pytest.approx([0.1, 0.3])
    worse_and_better = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    active.judge(torch.tensor([[0.7], [0.8]]), worse_and_better)
    assert active.best.flatten().tolist() == pytest.approx([0.1, 0.2, 0.8])
    assert active.best_objective.tolist() == [-1.0, 1.0, -2.0]
    active.reopen()
    assert active.rows.tolist() == [10, 12]


@pytest.mark.parametrize(
    "suite",
    [suites.quick(), suites.static(), suites.adaptive(POOL), suites.pixels()],
)
def test_suites_name_each_attack_once(suite) -> None:
    names = [attack.name for attack in suite]
    assert len(names) == len(set(names)) > 0


def test_what_the_suites_hold() -> None:
    assert [attack.name for attack in suites.quick()] == ["FGSM", "PGD", "Square"]
    adaptive = suites.adaptive(POOL, steps=7, restarts=2, queries=9)
    both = ["PGD-selective", "PGD-orthogonal"]
    others = ["PGD-margin", "PGD-CE", "PGD-pool", "Square"]
    assert [attack.name for attack in adaptive] == ["FGSM", *both, *others]
    plain = suites.adaptive(POOL, guarded=False)
    assert [attack.name for attack in plain] == ["FGSM", both[0], *others]
    assert adaptive[5].pool is POOL
    assert (adaptive[1].steps, adaptive[1].restarts, adaptive[6].queries) == (7, 2, 9)
    assert not any(a.stop for a in suites.adaptive(POOL, stop=False, guarded=False)[1:5])
    assert not any(attack.stop for attack in suites.static()[1:])
    assert suites.pixels(8, 2)[0] == OnePixel(8, 2)


def test_the_standard_suite_is_autoattacks() -> None:
    ce, t, fab, square = suites.standard()
    assert (ce.steps, ce.restarts, ce.loss, ce.targets, ce.rho) == (100, 1, "ce", 0, 0.75)
    assert (t.steps, t.restarts, t.loss, t.targets, t.widen) == (100, 1, "dlr", 9, False)
    assert (fab.steps, fab.targets, fab.restarts, fab.within) == (100, 9, 1, True)
    assert (fab.pull, fab.overshoot, fab.back) == (0.1, 1.05, 0.9)
    assert (square.queries, square.p, square.rescale) == (5000, 0.8, False)
    sparse = suites.standard("l1")
    assert (sparse[0].restarts, sparse[0].widen, sparse[1].targets) == (5, True, 5)
    assert [a.loss for a in suites.rand()] == ["ce", "dlr"]


def test_suites_by_name() -> None:
    for name in suites.NAMES:
        assert suites.by_name(name)
    assert suites.by_name("blackbox", queries=77)[0].queries == 77
    assert [a.name for a in suites.by_name("blackbox", norm="l1")] == ["Square"]
    assert suites.by_name("blackbox", norm="l0", queries=500) == (OnePixel(100, 4),)
    for name in ("physical", "unrestricted"):
        own = [attack.threat for attack in suites.by_name(name, box=(-2.0, 3.0))]
        assert all(threat.box == (-2.0, 3.0) for threat in own)
    with pytest.raises(UsageError, match=r"a suite must be one of quick, .*Got 'slow'"):
        suites.by_name("slow")
    with pytest.raises(
        UsageError, match=r"pixel budget there is the suite 'blackbox'\. Got 'quick'"
    ):
        suites.by_name("quick", norm="l0")
