"""Contracts that anyone's own attack, defence or detector can be run through.

Each check raises AssertionError with one sentence: what was expected, and what came instead.

>>> from buckler import PGD, LpBall
>>> check_attack(PGD(steps=5), LpBall("linf", 0.1))
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import log, prod

import numpy as np
import torch
from torch import Tensor, nn

from buckler import draws
from buckler.defenses import apply
from buckler.detectors import load_detector
from buckler.protocols import Attack, Defense, Detector, Features, Threat
from buckler.threats import LpBall

ROWS = 7
_SAME = 1e-9  # of the box's width, between two runs of one row in float64


class LinearModel(nn.Module):
    """Logits w·x + b, each row summed apart: no row feels its batch, not in the last bit."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight (k, d), bias (k,)."""
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        products: Tensor = x.flatten(1)[:, None] * self.weight
        return products.sum(-1) + self.bias


def check_attack(
    attack: Attack,
    threat: Threat,
    *,
    shape: tuple[int, ...] = (1, 5, 6),
    classes: int = 3,
    seed: int = 0,
) -> None:
    """An attack stays inside its threat, is a function of (seed, row id), and touches nothing.

    Per-row values of the threat (eps, targets) need 7 entries.
    """
    low, high = threat.box
    rows, every = 100 + 3 * torch.arange(ROWS), torch.arange(ROWS)
    x = (low + (high - low) * draws.uniform(seed, rows, 0, shape).double()).clamp(low, high)
    x.flatten(1)[:, :2] = x.new_tensor([low, high])  # values at the walls too
    model = _probe(prod(shape), classes, threat.box, seed)
    y = model(x).argmax(1).detach()
    y[-1] = (y[-1] + 1) % classes  # one row is won before the attack begins

    def run(idx: Tensor, threat: Threat = threat, ids: Tensor | None = rows) -> Tensor:
        given, ids = x[idx].clone(), None if ids is None else ids[idx]
        out = attack(model, given, y[idx], threat.take(idx), seed=seed, rows=ids)
        _expect(torch.equal(given, x[idx]), "the attack must leave the caller's x as it was")
        shared = len(idx) > 0 and out.data_ptr() == given.data_ptr()
        _expect(not shared, "the attack must return a new tensor. Got the caller's own x")
        return out

    with _random_state_kept():
        x_adv = run(every)
    _check_probe(model)
    _check_candidates(x, x_adv, threat)
    with torch.no_grad():
        before, after = (threat.goal.objective(model(points), y) for points in (x, x_adv))
    worse = ((after <= 0) & (after < before - _SAME)).nonzero()[:, 0].tolist()
    _expect(not worse, f"a row that is not won must come back no worse than x. Rows {worse} did")

    _same(run(every), x_adv, threat, "the same seed and rows must give the same result")
    order = torch.tensor([3, 6, 0, 5, 1, 4, 2])
    _same(run(order), x_adv[order], threat, "permuted rows must give permuted results")
    parts = torch.cat([run(every[:3]), run(every[3:])])
    _same(parts, x_adv, threat, "a batch in two parts must give the results of the whole")
    _same(run(every[2:3]), x_adv[2:3], threat, "a batch of one must give the row of the whole")
    none = tuple(run(every[:0]).shape)
    _expect(none == (0, *shape), f"a batch of none must give none back. Got the shape {none}")
    unnamed = run(every, ids=None)
    _same(unnamed, run(every, ids=every), threat, "rows=None must mean rows 0 to n-1")
    if isinstance(threat, LpBall) and not isinstance(threat.eps, Tensor):
        per_row = replace(threat, eps=threat.eps * torch.linspace(0.3, 1, ROWS))
        moved = run(every, per_row)
        _check_candidates(x, moved, per_row)
        _same(run(order, per_row), moved[order], threat, "each row must keep its own eps")
    single = attack(model.float(), x.float(), y, threat, seed=seed, rows=rows)
    _check_candidates(x.float(), single, threat)


def _probe(size: int, classes: int, box: tuple[float, float], seed: int) -> LinearModel:
    """A linear model centred in the box, in a state that a careless attack would disturb."""
    low, high = box
    weight = draws.normal(seed, torch.arange(classes), 1, (size,)).double() / (high - low)
    model = LinearModel(weight, -weight.sum(1) * (low + high) / 2)
    model.add_module("mixed", nn.Identity())
    model.eval().get_submodule("mixed").train()
    model.bias.requires_grad_(False)
    model.weight.grad = torch.ones_like(model.weight)
    return model


def _check_probe(model: LinearModel) -> None:
    modes = [part.training for part in model.modules()]
    _expect(modes == [False, True], "the attack must leave each part of the model in its mode")
    weight, bias = model.weight, model.bias
    kept = weight.grad is not None and bool((weight.grad == 1).all()) and bias.grad is None
    _expect(kept, "the attack must leave the parameters' .grad as it was")
    kept = weight.requires_grad and not bias.requires_grad
    _expect(kept, "the attack must leave the parameters' requires_grad as it was")


def _check_candidates(x: Tensor, x_adv: Tensor, threat: Threat) -> None:
    _expect(
        x_adv.shape == x.shape and x_adv.dtype == x.dtype,
        f"x_adv must have x's shape and dtype, {tuple(x.shape)} {x.dtype}. "
        f"Got {tuple(x_adv.shape)} {x_adv.dtype}",
    )
    _expect(not x_adv.requires_grad, "x_adv must carry no graph. Got one that requires grad")
    outside = (~threat.contains(x, x_adv)).nonzero()[:, 0].tolist()
    _expect(
        not outside,
        f"x_adv must lie inside {threat} and the box {threat.box}. Rows {outside} do not, at "
        f"distances of up to {float(threat.distance(x, x_adv).max()):.6g}",
    )


def check_defense(
    defense: Defense,
    *,
    shape: tuple[int, ...] = (3, 9, 12),
    box: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> None:
    """A defence keeps shape, dtype and box, depends on (x, key) alone, and has a gradient."""
    low, high = box
    name, keys = defense.name, 11 + 13 * torch.arange(ROWS)
    x = (low + (high - low) * draws.uniform(seed, keys, 0, shape)).clamp(low, high)
    x[0], x[1] = low, high
    given = x.clone()
    with _random_state_kept():
        out = defense(x, keys)
    _expect(torch.equal(x, given), f"{name} must leave the caller's x as it was")
    _expect(
        out.shape == x.shape and out.dtype == x.dtype,
        f"{name} must keep shape and dtype, {tuple(x.shape)} {x.dtype}. "
        f"Got {tuple(out.shape)} {out.dtype}",
    )
    _expect(
        bool((torch.isfinite(out) & (out >= low) & (out <= high)).all()),
        f"{name} must stay in the range [{low:g}, {high:g}]. "
        f"Got values from {float(out.min()):.9g} to {float(out.max()):.9g}",
    )
    _expect(torch.equal(defense(x, keys), out), f"{name} must give the same for the same keys")
    moved = not torch.equal(defense(x, keys + 1), out)
    _expect(moved or not defense.random, f"{name} is random and must change with its keys")
    _expect(defense.random or not moved, f"{name} is not random and must not change with its keys")
    for row in range(ROWS):
        alone = defense(x[row : row + 1], keys[row : row + 1])
        near = torch.allclose(alone[0], out[row], rtol=0, atol=1e-6 * (high - low))
        _expect(near, f"{name} must treat each row by itself. Row {row} alone differs")
    none = tuple(defense(x[:0], keys[:0]).shape)
    _expect(none == (0, *shape), f"{name} must give a batch of none back. Got the shape {none}")
    if defense.surrogate is not None:
        _check_gradient(defense.surrogate, x, f"the surrogate of {name}")
    through = _check_gradient(lambda z: apply(defense, z, keys), x, f"apply with {name}")
    _expect(torch.equal(through, out), f"apply must run the deployed {name}, bit for bit")


def check_detector(
    detector: Detector,
    features: Callable[[Tensor], Features],
    x: Tensor,
    *,
    load: Callable[[str, Mapping[str, np.ndarray]], Detector] = load_detector,
) -> None:
    """A detector scores each row by itself, has a gradient, and survives its own state().

    features: what it sees of x (n, ...), differentiable; `toy_features` makes such a function.
    """
    name = detector.name
    with torch.no_grad(), _random_state_kept():
        score = detector.score(features(x))
    good = score.shape == (len(x),) and bool(torch.isfinite(score).all())
    _expect(good, f"{name} must give {len(x)} finite scores. Got {score}")
    with torch.no_grad():
        alone = torch.cat([detector.score(features(row[None])) for row in x])
        again = load(name, detector.state()).score(features(x))
    near = torch.allclose(alone, score, rtol=1e-4, atol=1e-5)
    _expect(near, f"{name} must score each row by itself. A batch of one differs")
    _expect(torch.equal(again, score), f"{name} must score the same after state() and loading")
    traced = _check_gradient(lambda z: detector.score(features(z)), x, name)
    same = torch.allclose(traced, score, rtol=1e-4, atol=1e-5)
    _expect(same, f"{name} must score the same with a gradient as without")


def toy_features(
    shape: tuple[int, ...], classes: int = 3, seed: int = 0
) -> Callable[[Tensor], Features]:
    """A small differentiable guard: two members, two views (x, and x halfway to its mean)."""
    members, wide = torch.arange(2), 6
    hidden = draws.normal(seed, members, 0, (prod(shape), wide)) / prod(shape) ** 0.5
    final = draws.normal(seed, members, 1, (wide, classes))

    def features(x: Tensor) -> Features:
        mean = x.flatten(1).mean(1).reshape(-1, *[1] * len(shape))
        views = torch.stack([x, (x + mean) / 2])
        embed = torch.tanh(4 * views.flatten(2)[None] @ hidden[:, None])
        logits = 3 * embed @ final[:, None]
        return Features(views, logits, embed[:, 0], logits.log_softmax(-1).logsumexp(0) - log(2))

    return features


def _check_gradient(function: Callable[[Tensor], Tensor], x: Tensor, name: str) -> Tensor:
    """function(x), if its gradient is of use."""
    z = x.clone().requires_grad_(True)
    out = function(z)
    _expect(out.requires_grad, f"{name} must let gradients through to the input. Got none")
    pull = draws.normal(0, torch.arange(len(out)), 0, tuple(out.shape[1:])).to(out)
    grad = torch.autograd.grad((out * pull).sum(), z)[0]
    useful = bool(torch.isfinite(grad).all()) and bool((grad != 0).any())
    _expect(useful, f"{name} must give a finite gradient, not zero everywhere")
    return out.detach()


@contextmanager
def _random_state_kept() -> Iterator[None]:
    state = torch.get_rng_state()
    yield
    kept = torch.equal(state, torch.get_rng_state())
    _expect(kept, "torch's global random state must stay as it was: draw from buckler.draws")


def _same(got: Tensor, expected: Tensor, threat: Threat, sentence: str) -> None:
    gap = float((got - expected).abs().max()) / (threat.box[1] - threat.box[0])
    _expect(gap <= _SAME, f"{sentence}. Got values that differ by {gap:.3g} of the box")


def _expect(true: bool, sentence: str) -> None:
    if not true:
        raise AssertionError(sentence)
