"""Every detector through the one contract, then each against an oracle of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest as SklearnForest
from torch import Tensor

from buckler import draws
from buckler.detectors import (
    NAMES,
    Confidence,
    Energy,
    IsolationForest,
    Mahalanobis,
    Margin,
    MemberDisagreement,
    ViewDisagreement,
    ViM,
    fit_detector,
    load_detector,
)
from buckler.errors import BundleError, UsageError
from buckler.protocols import Detector, Features
from buckler.testing import check_detector, toy_features

SHAPES = [(1, 8, 8), (20,), (3, 4, 5)]


def fitted(name: str, shape: tuple[int, ...]) -> Detector:
    features = toy_features(shape)(draws.uniform(0, torch.arange(300), 0, shape))
    return fit_detector(name, features, features.probs.argmax(1).numpy())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)  # a new detector joins by its name
def test_contract(name: str, shape: tuple[int, ...]) -> None:
    x = draws.uniform(1, torch.arange(40), 0, shape)
    detector = fitted(name, shape)
    assert isinstance(detector, Detector)
    assert detector.name == name
    check_detector(detector, toy_features(shape), x)


def of_log_probs(log_probs: Tensor) -> Features:
    views = torch.zeros(len(log_probs), log_probs.shape[1], 2)
    return Features(views, log_probs[None], None, log_probs)


@pytest.mark.parametrize("p", [0.5, 0.9, 0.999])
def test_confidence_is_negative_log_odds(p: float) -> None:
    rest = (1 - p) / 3
    probs = torch.tensor([[rest, p, rest, rest]], dtype=torch.float64)
    score = Confidence().score(of_log_probs(probs.log()[None]))
    assert float(score) == pytest.approx(-np.log(p / (1 - p)))


def test_confidence_does_not_saturate() -> None:
    """At 1 − p = 1e-30 a probability is 1 in float64; the score still tells it from 1e-40."""
    gaps = torch.tensor([[0.0, -30.0], [0.0, -40.0], [0.0, -300.0]], requires_grad=True)
    score = Confidence().score(of_log_probs(gaps.log_softmax(1)[None]))
    assert score.tolist() == pytest.approx([-30.0, -40.0, -300.0])
    grad = torch.autograd.grad(score.sum(), gaps)[0]
    assert grad.abs().sum(1).tolist() == pytest.approx([2.0, 2.0, 2.0])


def test_margin_is_the_gap_of_the_two_best() -> None:
    probs = torch.tensor([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]], dtype=torch.float64)
    score = Margin().score(of_log_probs(probs.log()[None]))
    assert score.tolist() == pytest.approx([np.log(0.3 / 0.6), 0.0])


def test_margin_does_not_saturate() -> None:
    gaps = torch.tensor([[0.0, -30.0, -90.0], [0.0, -300.0, -900.0]], requires_grad=True)
    score = Margin().score(of_log_probs(gaps.log_softmax(1)[None]))
    assert score.tolist() == pytest.approx([-30.0, -300.0])
    grad = torch.autograd.grad(score.sum(), gaps)[0]
    assert grad.tolist() == pytest.approx(np.array([[-1.0, 1.0, 0.0]] * 2))


def of_members(*logits: Tensor) -> Features:
    """Each (n, k); one view, the plain mean of the members' probabilities."""
    stacked = torch.stack(logits)[:, None]
    mean = stacked.log_softmax(-1).logsumexp(0) - np.log(len(logits))
    return Features(torch.zeros(1, len(logits[0]), 2), stacked, None, mean)


def test_energy_is_the_weighted_mean_of_the_members_free_energies() -> None:
    one, two = torch.tensor([[3.0, -1.0, 0.5]]), torch.tensor([[-8.0, 2.0, 0.0]])
    score = Energy(np.array([0.25, 0.75]), np.array([2.0, 0.5])).score(of_members(one, two))
    expected = -0.25 * np.log(np.exp(one.numpy() / 2).sum())
    expected -= 0.75 * np.log(np.exp(two.numpy() / 0.5).sum())
    assert float(score) == pytest.approx(expected)


def test_energy_has_a_gradient_where_softmax_has_none() -> None:
    """A net that is sure beyond float32: adding to all logits still lowers the energy."""
    logits = torch.tensor([[500.0, 0.0, 0.0]], requires_grad=True)
    score = Energy(np.ones(1), np.ones(1)).score(of_members(logits))
    grad = torch.autograd.grad(score.sum(), logits)[0]
    assert float(grad.sum()) == pytest.approx(-1)


def test_members_take_the_largest_drop_from_their_mean() -> None:
    def odds(p: float) -> float:
        return float(np.log(p / (1 - p)))

    first = torch.tensor([[0.9, 0.06, 0.04]], dtype=torch.float64)
    second = torch.tensor([[0.3, 0.6, 0.1]], dtype=torch.float64)
    warm = np.array([1.0, 2.0])
    features = of_members(first.log(), second.log())
    features = replace(features, logits=torch.stack([first.log(), 2 * second.log()])[:, None])
    score = MemberDisagreement(warm).score(features)  # the mean is 0.6, 0.33, 0.07
    assert float(score) == pytest.approx(odds(0.6) - odds(0.3))


def test_members_that_agree_score_nothing() -> None:
    logits = torch.tensor([[4.0, 1.0, -2.0], [-300.0, 5.0, 200.0]])
    score = MemberDisagreement(np.ones(2)).score(of_members(logits, logits))
    assert score.abs().max() < 1e-4


def test_members_do_not_saturate() -> None:
    sure = torch.tensor([[300.0, 0.0]], dtype=torch.float64)
    for other in (200.0, 100.0):
        less = torch.tensor([[other, 0.0]], dtype=torch.float64, requires_grad=True)
        score = MemberDisagreement(np.ones(2)).score(of_members(sure, less))
        expected = (other + np.log(2)) - other  # the odds of the mean are those of the less sure
        assert float(score.detach()) == pytest.approx(expected)
        assert torch.autograd.grad(score.sum(), less)[0].isfinite().all()


def test_members_refuse_one_member_by_name() -> None:
    with pytest.raises(UsageError, match=r"'members' compares members.* has one: leave 'members'"):
        MemberDisagreement(np.ones(1))
    one = of_members(torch.zeros(4, 3))
    with pytest.raises(UsageError, match="leave 'members' out of the detectors"):
        fit_detector("members", one, np.zeros(4, int))


@pytest.mark.parametrize("detector", [MemberDisagreement(np.ones(2)), Energy(*np.ones((2, 2)))])
def test_another_number_of_members_is_refused(detector: Detector) -> None:
    three = of_members(*torch.zeros(3, 4, 3))
    with pytest.raises(UsageError, match=rf"'{detector.name}' was fitted for 2 members\. Got .* 3"):
        detector.score(three)


def test_views_take_the_largest_drop_of_the_top_class() -> None:
    def odds(p: float) -> float:
        return float(np.log(p / (1 - p)))

    probs = torch.tensor([[[0.9, 0.1]], [[0.6, 0.4]], [[0.2, 0.8]]], dtype=torch.float64)
    score = ViewDisagreement().score(of_log_probs(probs.log()))
    assert float(score) == pytest.approx(odds(0.9) - odds(0.2))
    surer = torch.tensor([[[0.6, 0.4]], [[0.9, 0.1]]], dtype=torch.float64)
    assert float(ViewDisagreement().score(of_log_probs(surer.log()))) < 0


def test_views_need_a_second_view() -> None:
    one = of_log_probs(torch.tensor([[[0.9, 0.1]]]).log())
    with pytest.raises(UsageError, match="'views' needs a guard with at least one extra view"):
        ViewDisagreement().score(one)


def embedded(n: int, d: int, seed: int) -> tuple[Features, np.ndarray]:
    """Three clouds of one tilted shape."""
    y = np.arange(n) % 3
    tilt = draws.normal(7, torch.arange(d), 0, (d,)).double() / d**0.5 + torch.eye(d)
    centres = 4 * draws.normal(8, torch.arange(3), 0, (d,)).double()
    embed = draws.normal(seed, torch.arange(n), 0, (d,)).double() @ tilt + centres[y]
    log_probs = torch.zeros(1, n, 3).log_softmax(2)
    return Features(embed.float()[None], log_probs[None], embed.float()[None], log_probs), y


@pytest.mark.parametrize("n", [10, 60])
def test_mahalanobis_against_the_formula(n: int) -> None:
    """sqrt((e − m)ᵀ S⁻¹ (e − m)), S shrunk by Ledoit and Wolf; 60 rows take torch's other path."""
    features, y = embedded(300, 5, seed=0)
    embed = features.embed[0].double().numpy()
    means = np.stack([embed[y == label].mean(0) for label in range(3)])
    inverse = np.linalg.inv(LedoitWolf(assume_centered=True).fit(embed - means[y]).covariance_)
    fresh, _ = embedded(n, 5, seed=1)
    delta = fresh.embed[0].double().numpy()[:, None] - means[None]
    expected = np.sqrt(np.einsum("nki,ij,nkj->nk", delta, inverse, delta)).min(1)
    score = Mahalanobis.fit(features, y).score(fresh)
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-4)


def test_mahalanobis_with_labels_that_leave_one_out() -> None:
    features, y = embedded(300, 5, seed=0)
    whole, gap = Mahalanobis.fit(features, y), Mahalanobis.fit(features, np.array([0, 4, 9])[y])
    np.testing.assert_allclose(whole.score(features), gap.score(features), rtol=1e-5)


def test_mahalanobis_survives_an_embedding_without_spread() -> None:
    features, y = embedded(300, 5, seed=0)
    embed = features.embed.clone()
    embed[..., 2] = 1.0
    flat = replace(features, embed=embed)
    assert bool(torch.isfinite(Mahalanobis.fit(flat, y).score(flat)).all())


def test_mahalanobis_refuses_by_name_without_an_embedding() -> None:
    features, y = embedded(300, 5, seed=0)
    without = replace(features, embed=None)
    sentence = "'mahalanobis' needs an embedding.*: leave 'mahalanobis' out of the detectors"
    with pytest.raises(UsageError, match=sentence):
        Mahalanobis.fit(without, y)
    with pytest.raises(UsageError, match=sentence):
        Mahalanobis.fit(features, y).score(without)


def flat(n: int, seed: int, off: float) -> Features:
    """Embeddings near a plane in seven dimensions, `off` away from it, and logits of them."""
    basis = torch.linalg.qr(draws.normal(2, torch.arange(7), 0, (7,)).double()).Q
    inside = draws.normal(seed, torch.arange(n), 0, (2,)).double() @ basis[:, :2].T
    outside = draws.normal(seed, torch.arange(n), 1, (5,)).double() @ basis[:, 2:].T
    embed = 3 + 5 * inside + off * outside
    logits = embed @ draws.normal(4, torch.arange(7), 0, (3,)).double()
    return Features(embed[None], logits[None, None], embed[None], logits.log_softmax(1)[None])


def test_vim_against_the_formula() -> None:
    """α‖residual‖ − logsumexp(logits), by singular values where the code takes eigenvectors."""
    train, fresh = flat(400, 0, 0.05), flat(30, 1, 1.0)
    embed = train.embed[0].numpy()
    origin = embed.mean(0)
    _, sizes, directions = np.linalg.svd(embed - origin)
    assert (sizes[:2] ** 2).sum() > 0.95 * (sizes**2).sum() > (sizes[:1] ** 2).sum()

    def residual(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm((points - origin) @ directions[2:].T, axis=1)

    alpha = train.logits[0, 0].numpy().max(1).mean() / residual(embed).mean()
    logits = fresh.logits[0, 0].numpy()
    expected = alpha * residual(fresh.embed[0].numpy()) - np.log(np.exp(logits).sum(1))
    score = ViM.fit(train).score(fresh).numpy()
    np.testing.assert_allclose(score, expected, rtol=1e-3)


def test_vim_sees_what_leaves_the_plane() -> None:
    detector = ViM.fit(flat(400, 0, 0.05))
    near, far = detector.score(flat(50, 1, 0.05)), detector.score(flat(50, 1, 1.0))
    assert float((far - near).min()) > 0


def test_vim_keeps_a_gradient_at_the_origin_and_far_away() -> None:
    train = flat(400, 0, 0.05)
    detector = ViM.fit(train)
    for embed in (torch.from_numpy(detector.state()["origin"])[None], torch.full((1, 7), 1e4)):
        z = embed.clone().requires_grad_(True)
        features = replace(train, embed=z[None], logits=torch.zeros(1, 1, 1, 3))
        grad = torch.autograd.grad(detector.score(features).sum(), z)[0]
        assert bool(grad.isfinite().all())
    assert bool((grad != 0).any())


def test_vim_leaves_a_direction_out_of_an_embedding_that_fills_its_space() -> None:
    features, _ = embedded(300, 2, seed=0)
    assert ViM.fit(features).state()["rest"].shape == (2, 1)


def test_vim_refuses_by_name_without_an_embedding() -> None:
    features, _ = embedded(300, 5, seed=0)
    without = replace(features, embed=None)
    with pytest.raises(UsageError, match=r"'vim' needs an embedding.*: leave 'vim' out"):
        ViM.fit(without)


def pixels(x: Tensor) -> Features:
    log_probs = torch.zeros(1, len(x), 2).log_softmax(2)
    return Features(x[None], log_probs[None], None, log_probs)


@pytest.mark.parametrize("data", ["digits", "features"])
def test_the_forest_is_scikit_learns(data: str) -> None:
    if data == "digits":
        x = torch.from_numpy(load_digits().images[:1200]).float() / 16
    else:
        x = draws.normal(0, torch.arange(1200), 0, (6,))
    train, fresh = x[:700], torch.cat([x[700:], 3 * x[700:] - 1])
    forest = SklearnForest(n_estimators=100, random_state=0).fit(train.flatten(1).numpy())
    expected = np.maximum(0, -2 * forest.score_samples(fresh.flatten(1).numpy()) - 1)
    score = IsolationForest.fit(pixels(train)).score(pixels(fresh)).numpy()
    np.testing.assert_allclose(score, expected, atol=1e-5)
    assert (expected > 0).mean() > 0.05, "the border must be crossed"


def test_the_forests_surrogate_has_a_gradient_where_the_score_is_zero() -> None:
    x = draws.uniform(0, torch.arange(400), 0, (12,))
    detector = IsolationForest.fit(pixels(x))
    z = x[:50].clone().requires_grad_(True)
    score = detector.score(pixels(z))
    assert bool((score == 0).any())
    assert torch.equal(score.detach(), detector.score(pixels(x[:50])))
    grad = torch.autograd.grad(score.sum(), z)[0]
    assert bool((grad.abs().amax(1) > 0).all()), "each row must have a way to move"
    assert bool(torch.isfinite(grad).all())


def test_the_forests_gradient_leads_to_lower_scores() -> None:
    """Followed for 60 small steps it must do more good than harm, on the real score's own scale."""
    x = draws.uniform(0, torch.arange(400), 0, (12,))
    detector = IsolationForest.fit(pixels(x))
    z = (1.6 * draws.uniform(5, torch.arange(60), 0, (12,)) - 0.3).requires_grad_(True)
    start = detector.score(pixels(z.detach()))
    for _ in range(60):
        grad = torch.autograd.grad(detector.score(pixels(z)).sum(), z)[0]
        z = (z - 0.02 * grad.sign()).detach().requires_grad_(True)
    assert float(detector.score(pixels(z.detach())).mean()) < 0.5 * float(start.mean())


def test_the_forests_surrogate_in_float64() -> None:
    x = draws.uniform(0, torch.arange(200), 0, (6,))
    detector = IsolationForest.fit(pixels(x))
    z = x[:5].double().requires_grad_(True)
    grad = torch.autograd.grad(detector.score(pixels(z)).sum(), z)[0]
    assert grad.dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_state_is_plain_arrays(name: str) -> None:
    state = fitted(name, (20,)).state()
    assert all(isinstance(value, np.ndarray) for value in state.values())
    copies = {key: value.copy() for key, value in state.items()}
    assert load_detector(name, copies).name == name


def test_unknown_detectors_are_refused() -> None:
    features = toy_features((4,))(torch.rand(5, 4))
    with pytest.raises(UsageError, match=r"one of confidence, margin, .*, density\. Got 'x'"):
        fit_detector("x", features, np.zeros(5, int))
    with pytest.raises(BundleError, match="names a detector 'x'; known are confidence, margin"):
        load_detector("x", {})
