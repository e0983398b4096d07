"""testing: each kind of bad part is caught; good ones pass, here and in their own folders."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from buckler.attacks import PGD
from buckler.defenses import Median
from buckler.protocols import Classifier, Features, Threat
from buckler.testing import check_attack, check_defense, check_detector, toy_features
from buckler.threats import LpBall, PixelBudget

Body = Callable[[Classifier, Tensor, Tensor, Threat, int, Tensor], Tensor]
GOOD = PGD(steps=3, step_size=0.5)


@dataclass(frozen=True)
class Bad:
    """PGD, with something done wrong around it."""

    body: Body
    name: str = "bad"

    def __call__(self, model, x, y, threat, *, seed=0, rows=None) -> Tensor:
        rows = torch.arange(len(x)) if rows is None else rows
        return self.body(model, x, y, threat, seed, rows)


def good(model, x, y, threat, seed, rows) -> Tensor:
    return GOOD(model, x, y, threat, seed=seed, rows=rows)


def writes_into_x(model, x, y, threat, seed, rows) -> Tensor:
    out = good(model, x, y, threat, seed, rows)
    x.add_(0.001)
    return out


def returns_x(model, x, y, threat, seed, rows) -> Tensor:
    return x


def trains(model, x, y, threat, seed, rows) -> Tensor:
    out = good(model, x, y, threat, seed, rows)
    model.train()
    return out


def evaluates(model, x, y, threat, seed, rows) -> Tensor:
    out = good(model, x, y, threat, seed, rows)
    model.eval()
    return out


def leaves_gradients(model, x, y, threat, seed, rows) -> Tensor:
    model(x).sum().backward()
    return good(model, x, y, threat, seed, rows)


def wipes_gradients(model, x, y, threat, seed, rows) -> Tensor:
    model.zero_grad()
    return good(model, x, y, threat, seed, rows)


def freezes(model, x, y, threat, seed, rows) -> Tensor:
    model.requires_grad_(False)
    return good(model, x, y, threat, seed, rows)


def draws_from_the_global_state(model, x, y, threat, seed, rows) -> Tensor:
    return threat.project(x, x + 0.01 * torch.randn_like(x))


def seeds_the_global_state(model, x, y, threat, seed, rows) -> Tensor:
    torch.manual_seed(seed)
    return good(model, x, y, threat, seed, rows)


def leaves_the_ball(model, x, y, threat, seed, rows) -> Tensor:
    return good(model, x, y, replace(threat, eps=1.01 * threat.eps), seed, rows)


def leaves_the_box(model, x, y, threat, seed, rows) -> Tensor:
    return good(model, x, y, threat, seed, rows) - 1e-6


def is_no_number(model, x, y, threat, seed, rows) -> Tensor:
    return good(model, x, y, threat, seed, rows) * torch.nan


def is_float32(model, x, y, threat, seed, rows) -> Tensor:
    return good(model, x, y, threat, seed, rows).float()


def is_flat(model, x, y, threat, seed, rows) -> Tensor:
    return good(model, x, y, threat, seed, rows).flatten(1)


def keeps_its_graph(model, x, y, threat, seed, rows) -> Tensor:
    return good(model, x, y, threat, seed, rows).requires_grad_(True)


def returns_black(model, x, y, threat, seed, rows) -> Tensor:
    """Lost rows come back as some fixed point, as in Foolbox' C&W."""
    return threat.project(x, torch.zeros_like(x))


class Counter:
    calls = 0


def differs_by_call(model, x, y, threat, seed, rows) -> Tensor:
    Counter.calls += 1
    return step_by(model, x, y, threat, 1 / (1 + Counter.calls % 7))


def step_by(model, x, y, threat, share) -> Tensor:
    """A share of PGD's own step: inside the ball, and no worse than x on a linear model."""
    best = good(model, x, y, threat, 0, torch.arange(len(x)))
    return x + share * (best - x)


def differs_by_place(model, x, y, threat, seed, rows) -> Tensor:
    place = 1 / (1 + torch.arange(len(x))).reshape(-1, 1, 1, 1)
    return step_by(model, x, y, threat, place)


def shares_a_norm(model, x, y, threat, seed, rows) -> Tensor:
    """One scalar from the whole batch, as in Foolbox' HopSkipJump."""
    return step_by(model, x, y, threat, 1 / (1 + x.norm()))


def cannot_take_nothing(model, x, y, threat, seed, rows) -> Tensor:
    return good(model, x, y, threat, seed, rows) if len(x) else torch.zeros(0)


def ignores_default_rows(model, x, y, threat, seed, rows) -> Tensor:
    return step_by(model, x, y, threat, (1 / (1 + rows.double())).reshape(-1, 1, 1, 1))


def takes_the_largest_eps(model, x, y, threat, seed, rows) -> Tensor:
    eps = torch.as_tensor(threat.eps)
    largest = float(eps.max()) if eps.numel() else 0.1
    return good(model, x, y, replace(threat, eps=largest), seed, rows)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (writes_into_x, "must leave the caller's x as it was"),
        (returns_x, r"must return a new tensor\. Got the caller's own x"),
        (trains, "must leave each part of the model in its mode"),
        (evaluates, "must leave each part of the model in its mode"),
        (leaves_gradients, r"must leave the parameters' \.grad as it was"),
        (wipes_gradients, r"must leave the parameters' \.grad as it was"),
        (freezes, "must leave the parameters' requires_grad as it was"),
        (draws_from_the_global_state, "torch's global random state must stay as it was"),
        (seeds_the_global_state, "torch's global random state must stay as it was"),
        (
            leaves_the_ball,
            r"must lie inside linf eps 0\.1 and the box .*Rows \[.*\] do not, at dist",
        ),
        (leaves_the_box, r"must lie inside linf eps 0\.1 and the box \(0\.0, 1\.0\)"),
        (is_no_number, r"must lie inside .* up to nan"),
        (is_float32, r"x's shape and dtype, \(7, 1, 5, 6\) torch\.float64\. Got .*float32"),
        (is_flat, r"x's shape and dtype, \(7, 1, 5, 6\) .*Got \(7, 30\)"),
        (keeps_its_graph, r"must carry no graph\. Got one that requires grad"),
        (returns_black, r"not won must come back no worse than x\. Rows \[.*\] did"),
        (
            differs_by_call,
            "the same seed and rows must give the same result. Got values that differ",
        ),
        (differs_by_place, "permuted rows must give permuted results"),
        (shares_a_norm, "a batch in two parts must give the results of the whole"),
        (cannot_take_nothing, r"batch of none must give none back\. Got the shape \(0,\)"),
        (takes_the_largest_eps, "must lie inside linf eps per row"),
    ],
)
def test_bad_attacks_are_caught(body: Body, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_attack(Bad(body), LpBall("linf", 0.1))


def test_rows_by_default() -> None:
    class Wrong(Bad):
        def __call__(self, model, x, y, threat, *, seed=0, rows=None) -> Tensor:
            rows = torch.arange(len(x)) + 5 if rows is None else rows
            return ignores_default_rows(model, x, y, threat, seed, rows)

    with pytest.raises(AssertionError, match="rows=None must mean rows 0 to n-1"):
        check_attack(Wrong(good), LpBall("linf", 0.1))


def test_one_row_alone() -> None:
    def alone_it_does_less(model, x, y, threat, seed, rows) -> Tensor:
        return step_by(model, x, y, threat, 1.0 if len(x) != 1 else 0.5)

    with pytest.raises(AssertionError, match="a batch of one must give the row of the whole"):
        check_attack(Bad(alone_it_does_less), LpBall("linf", 0.1))


def test_eps_that_stays_behind_when_rows_move() -> None:
    """The first row's eps for all: inside each ball, yet another point once rows are permuted."""

    def first_eps(model, x, y, threat, seed, rows) -> Tensor:
        eps = torch.as_tensor(threat.eps).flatten()
        smallest = 0.03 if eps.numel() > 1 and float(eps[0]) < 0.04 else 0.02
        return good(model, x, y, replace(threat, eps=smallest), seed, rows)

    with pytest.raises(AssertionError, match="each row must keep its own eps"):
        check_attack(Bad(first_eps), LpBall("linf", 0.1))


def test_a_good_attack_passes() -> None:
    check_attack(Bad(good), LpBall("linf", 0.1))
    with pytest.raises(AssertionError, match="must lie inside 1 pixel"):
        check_attack(
            Bad(lambda model, x, y, threat, seed, rows: (x + 0.01).clamp(0, 1)), PixelBudget(1)
        )


@dataclass(frozen=True)
class Part:
    """A defence made of a function."""

    body: Callable[[Tensor, Tensor], Tensor]
    random: bool = False
    surrogate: Callable[[Tensor], Tensor] | None = None
    name: str = "part"
    calls: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        self.calls.append(1)
        return self.body(x, keys)


def in_place(x: Tensor, keys: Tensor) -> Tensor:
    return x.detach().mul_(0.5)


def by_key(x: Tensor, keys: Tensor) -> Tensor:
    return x * (0.5 + 0.4 * (keys % 2).reshape(-1, 1, 1, 1))


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (Part(in_place), "part must leave the caller's x as it was"),
        (
            Part(lambda x, keys: (x + 0 * torch.rand(1)).clamp(0, 1)),
            "torch's global random state must stay as it was",
        ),
        (
            Part(lambda x, keys: x[..., 1:]),
            r"keep shape and dtype, \(7, 3, 9, 12\) torch\.float32\. Got \(7, 3, 9, 11\)",
        ),
        (Part(lambda x, keys: x.double()), r"Got \(7, 3, 9, 12\) torch\.float64"),
        (
            Part(lambda x, keys: x * 1.0000001),
            r"stay in the range \[0, 1\]\. Got values from 0 to 1\.00000012",
        ),
        (Part(lambda x, keys: x * torch.nan), "stay in the range"),
        (Part(by_key), "part is not random and must not change with its keys"),
        (Part(lambda x, keys: x / 2, random=True), "part is random and must change with its keys"),
        (
            Part(lambda x, keys: x * (x.mean() if len(x) else 1)),
            r"must treat each row by itself\. Row 1 alone differs",
        ),
        (
            Part(lambda x, keys: x if len(x) else x.flatten(1)),
            r"must give a batch of none back\. Got the shape \(0, 324\)",
        ),
        (
            Part(lambda x, keys: x.detach() * 0.5),
            r"apply with part must let gradients through to the input\. Got none",
        ),
        (
            Part(lambda x, keys: x.round(), surrogate=lambda x: x.round()),
            "the surrogate of part must give a finite gradient, not zero everywhere",
        ),
        (
            Part(lambda x, keys: x.round(), surrogate=lambda x: (x - x.detach()).sqrt()),
            "the surrogate of part must give a finite gradient",
        ),
    ],
)
def test_bad_defences_are_caught(part: Part, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_defense(part)


def test_a_defence_that_forgets() -> None:
    part = Part(lambda x, keys: x * (0.5 if len(part.calls) % 2 else 0.6))
    with pytest.raises(AssertionError, match="part must give the same for the same keys"):
        check_defense(part)


def test_a_defence_that_deploys_something_else_under_gradients() -> None:
    part = Part(lambda x, keys: x * (0.5 if x.requires_grad else 0.6))
    with pytest.raises(AssertionError, match="apply must run the deployed part, bit for bit"):
        check_defense(part)


def test_good_defences_pass() -> None:
    check_defense(Part(lambda x, keys: x.round(), surrogate=lambda x: x))
    check_defense(Part(by_key, random=True))
    check_defense(Median(3), shape=(1, 4, 4), box=(-0.1, 0.3))


@dataclass(frozen=True)
class Scorer:
    """A detector made of a function."""

    body: Callable[[Features], Tensor]
    scale: float = 1.0
    name: str = "scorer"

    def score(self, features: Features) -> Tensor:
        return self.scale * self.body(features)

    def state(self) -> dict[str, np.ndarray]:
        return {"scale": np.array(self.scale)}


def brightness(features: Features) -> Tensor:
    return features.views[0].flatten(1).mean(1)


def load_with(body: Callable[[Features], Tensor]) -> Callable[..., Scorer]:
    return lambda name, state: Scorer(body, float(state["scale"]))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (lambda f: f.views[0].flatten(1), r"must give 9 finite scores\. Got tensor"),
        (lambda f: brightness(f) * torch.nan, "must give 9 finite scores"),
        (lambda f: brightness(f) - brightness(f).mean(), "must score each row by itself"),
        (lambda f: brightness(f).detach(), r"must let gradients through to the input\. Got none"),
        (lambda f: (brightness(f) * 100).round(), "must give a finite gradient, not zero everywh"),
        (
            lambda f: brightness(f) * (2 if f.views.requires_grad else 1),
            "must score the same with a gradient as without",
        ),
        (
            lambda f: brightness(f) + 0 * torch.rand(1),
            "torch's global random state must stay as it was",
        ),
    ],
)
def test_bad_detectors_are_caught(body: Callable[[Features], Tensor], sentence: str) -> None:
    x = torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(AssertionError, match=sentence):
        check_detector(Scorer(body), toy_features((1, 4, 4)), x, load=load_with(body))


def test_a_detector_that_forgets_its_state() -> None:
    x = torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    features = toy_features((1, 4, 4))
    check_detector(Scorer(brightness, 2.0), features, x, load=load_with(brightness))
    with pytest.raises(AssertionError, match="must score the same after state"):
        check_detector(
            Scorer(brightness, 2.0), features, x, load=lambda name, state: Scorer(brightness)
        )


def test_toy_features_have_the_shapes_of_a_guards() -> None:
    x = torch.rand(9, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    features = toy_features((3, 4, 5), classes=4)(x)
    assert features.views.shape == (2, 9, 3, 4, 5)
    assert features.logits.shape == (2, 2, 9, 4)
    assert features.embed.shape == (2, 9, 6)
    assert features.log_probs.shape == (2, 9, 4)
    torch.testing.assert_close(features.log_probs.exp().sum(-1), torch.ones(2, 9))
    expected = features.logits.softmax(-1).mean(0).log()
    torch.testing.assert_close(features.log_probs, expected)
