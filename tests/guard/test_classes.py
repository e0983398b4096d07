"""Thresholds by predicted class: who has one, and that each class keeps its rate."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from buckler.errors import UsageError
from buckler.guard import calibrate, classes, load_bundle, write_bundle
from buckler.guard.bundle import MemberSource
from buckler.guard.classes import thresholds_by_class
from buckler.guard.rule import Calibrated
from buckler.stats import conformal_threshold
from buckler.threats import Goal


def rows(*counts: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that rise with the class, and the predicted classes."""
    predicted = np.repeat(np.arange(len(counts)), counts)
    scores = np.random.default_rng(0).normal(size=len(predicted)) + 10 * predicted
    return scores, predicted


def test_each_large_class_has_the_threshold_of_its_own_rows() -> None:
    scores, predicted = rows(600, 700)
    found = thresholds_by_class(scores, predicted, 2, 0.05)
    for label in (0, 1):
        assert found[label] == conformal_threshold(scores[predicted == label], 0.05)
    assert [threshold.n for threshold in found] == [600, 700]


def test_small_classes_share_one_threshold() -> None:
    scores, predicted = rows(600, 260, 0, 260)
    found = thresholds_by_class(scores, predicted, 4, 0.05)
    assert [threshold.n for threshold in found] == [600, 520, 520, 520]
    assert found[1] == found[2] == found[3]


def test_a_pool_that_is_too_small_takes_the_smallest_large_class_in() -> None:
    scores, predicted = rows(900, 40, 600)
    found = thresholds_by_class(scores, predicted, 3, 0.05)
    assert [threshold.n for threshold in found] == [900, 640, 640]


@pytest.mark.parametrize("counts", [(499, 499, 499), (600, 40), (300, 0)])
def test_where_all_share_one_there_is_one(counts: tuple[int, ...]) -> None:
    assert thresholds_by_class(*rows(*counts), len(counts), 0.05) == ()


def test_a_small_rate_needs_larger_classes() -> None:
    assert thresholds_by_class(*rows(900, 900), 2, 0.001) == ()
    assert thresholds_by_class(*rows(1000, 1000), 2, 0.001) != ()


def test_each_class_keeps_its_rate_where_one_threshold_would_not() -> None:
    """Scores of class 1 spread three times as wide. One threshold flags nearly only those.

    200 calibrations of 600 rows a class; the flag rate given each is known from the normal
    distribution. Bounds of 5 standard errors around the exact means.
    """
    from scipy.stats import norm

    rng = np.random.default_rng(2)
    predicted = np.repeat([0, 1], 600)
    spread = np.where(predicted == 0, 1.0, 3.0)
    rates, together = [], []
    for _ in range(200):
        scores = rng.normal(size=1200) * spread
        found = thresholds_by_class(scores, predicted, 2, 0.05)
        rates.append([norm.sf(found[0].value), norm.sf(found[1].value / 3)])
        one = conformal_threshold(scores, 0.05).value
        together.append([norm.sf(one), norm.sf(one / 3)])
    deviation = math.sqrt(0.05 * 0.95 / 600 / 200)
    assert np.mean(rates, 0) == pytest.approx([found[0].expected] * 2, abs=5 * deviation)
    assert np.mean(together, 0)[0] < 0.01 < 0.08 < np.mean(together, 0)[1]


@pytest.fixture(scope="module")
def plain(dataset, trained):
    return calibrate(dataset, [trained], [1.0], review_rate=0.1)


@pytest.fixture(scope="module")
def split(plain):
    """A guard with three thresholds that differ, as if each class had its 500 rows."""
    base = plain.rule.calibration
    limits = tuple(replace(base, value=base.value + add) for add in (-0.4, 0.0, 0.7))
    return replace(plain, rule=replace(plain.rule, by_class=limits))


def mixed(dataset):
    x = dataset["test"].x
    blend = torch.linspace(0, 1, 5)[:, None, None, None, None]
    return dataset.spec.snap(((1 - blend) * x + blend * x.roll(1, 0)).flatten(0, 1))


def test_the_view_says_reject_exactly_where_judge_says_suspicious(split, dataset):
    x = mixed(dataset)
    logits = split.attack_view()(x)
    predicted, accepted = split.answer(x)
    flagged = [verdict.status == "SUSPICIOUS" for verdict in split.judge(x)]
    assert (logits.argmax(1) == dataset.spec.classes).tolist() == flagged
    assert accepted.tolist() == [not f for f in flagged]
    assert (logits[:, :-1].argmax(1) == predicted).all()


def test_the_threshold_is_that_of_the_predicted_class(plain, split, dataset):
    x = mixed(dataset)
    predicted, over = plain.suspicion(x)
    _, by_class = split.suspicion(x)
    moved = torch.tensor([-0.4, 0.0, 0.7])[predicted]
    torch.testing.assert_close(by_class, over - moved, atol=1e-5, rtol=0)
    changed = (over > 0) != (by_class > 0)
    assert bool(changed[predicted == 0].any()) or bool(changed[predicted == 2].any())
    assert not bool(changed[predicted == 1].any())


def test_gradients_reach_the_input(split, dataset):
    x = dataset["test"].x[:20].clone().requires_grad_(True)
    won = Goal("guarded").objective(split.attack_view()(x), dataset["test"].y[:20])
    grad = torch.autograd.grad(won.sum(), x)[0]
    assert bool((grad.flatten(1).abs().amax(1) > 0).all())
    assert bool(grad.isfinite().all())


def test_calibrate_sets_one_a_class_where_there_are_rows(dataset, trained, monkeypatch):
    assert calibrate(dataset, [trained], [1.0], review_rate=0.1, by_class=True).rule.by_class == ()
    monkeypatch.setattr(classes, "ENOUGH", 10)
    guard = calibrate(dataset, [trained], [1.0], review_rate=0.1, by_class=True)
    counts = guard.answer(dataset["calibrate"].x)[0].bincount(minlength=3)
    assert [threshold.n for threshold in guard.rule.by_class] == counts.tolist()
    _, accepted = guard.answer(dataset["calibrate"].x)
    for label in range(3):
        flagged = ~accepted[guard.answer(dataset["calibrate"].x)[0] == label]
        assert flagged.float().mean() <= 0.1


def test_a_bundle_keeps_them(split, dataset, tmp_path):
    source = MemberSource("one", "tests.conftest:tiny_net")
    write_bundle(split, dataset, [source], tmp_path / "b")
    loaded = load_bundle(tmp_path / "b", factories=[source.factory])
    assert loaded.rule.by_class == split.rule.by_class
    x = mixed(dataset)
    assert [v.status for v in loaded.judge(x)] == [v.status for v in split.judge(x)]


def test_another_review_rate_without_calibrating_anew(plain, split, dataset, trained):
    higher = plain.rule.at(0.3)
    assert higher.calibration == calibrate(
        dataset, [trained], [1.0], review_rate=0.3
    ).rule.calibration  # fmt: skip
    assert higher.threshold < plain.rule.threshold
    with pytest.raises(UsageError, match="thresholds by class cannot be changed afterwards"):
        split.rule.at(0.3)


def test_the_promise_holds_through_maps_and_mean():
    """200 times: three scores that hang together, maps from 150 rows, a threshold from 300.

    The flag rate on 20,000 fresh rows is under the bound in 95 % of draws; counted with the fresh
    rows' own noise (a standard deviation of 0.1 points) allowed twice. Fixed seed.
    """
    generator = torch.Generator().manual_seed(0)

    def scores(n: int) -> torch.Tensor:
        common = torch.randn(1, n, generator=generator)
        return torch.exp(0.5 * (common + torch.randn(3, n, generator=generator)))

    fresh, kept = scores(20_000), 0
    for _ in range(200):
        rule = Calibrated.fit(scores(150), scores(300), 0.02)
        rate = float((rule.combine(fresh) > rule.threshold).float().mean())
        kept += rate <= rule.calibration.upper + 0.002
    assert kept / 200 >= 0.93
