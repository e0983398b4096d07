"""The guard: its attack view, its verdicts, its calibration."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from buckler import draws
from buckler.defenses import JPEG, GaussianNoise, Median, RandomRotation
from buckler.errors import DataError, UsageError
from buckler.guard import Guard, article, calibrate
from buckler.guard.keys import content_keys
from buckler.guard.rule import Calibrated, Thresholds
from buckler.guard.temperature import fit_temperature
from buckler.models import TorchClassifier
from buckler.threats import Goal

THREE = {
    "views": (Median(2), JPEG(75)),
    "detectors": ("confidence", "views", "mahalanobis"),
    "review_rate": 0.1,
}


@pytest.fixture(scope="module")
def guard(dataset, trained):
    return calibrate(dataset, [trained], [1.0], **THREE)


@pytest.fixture(scope="module")
def baseline(dataset, trained):
    return article(dataset, [trained, trained], confidence=0.8)


def many(dataset, count=300):
    """Rows of all kinds: clean, noisy, random."""
    x = dataset["test"].x
    noise = draws.uniform(3, torch.arange(count), 0, (1, 8, 8))
    mixed = torch.cat([x, (x[:60] + noise[:60] - 0.5).clamp(0, 1), noise])
    return mixed


@pytest.mark.parametrize("kind", ["guard", "baseline"])
def test_view_says_reject_exactly_where_judge_says_suspicious(kind, dataset, request):
    guard = request.getfixturevalue(kind)
    x = many(dataset)
    view = guard.attack_view()(x)
    verdicts = guard.judge(x)
    assert view.shape == (len(x), dataset.spec.classes + 1)
    flagged = [verdict.status == "SUSPICIOUS" for verdict in verdicts]
    assert (view.argmax(1) == dataset.spec.classes).tolist() == flagged
    assert 0 < sum(flagged) < len(x)
    predicted, accepted = guard.answer(x)
    assert accepted.tolist() == [not f for f in flagged]
    names = dataset.spec.class_names
    assert [names[p] for p in predicted.tolist()] == [v.prediction for v in verdicts]


def test_a_score_over_its_threshold_by_a_hair_is_rejected(guard, dataset):
    x = many(dataset)
    _, scores, _ = guard._look(x, None)
    combined = guard.rule.combine(scores)
    edge = replace(guard, rule=replace(guard.rule, calibration=replace(
        guard.rule.calibration, value=float(combined.median()) - 1e-7)))  # fmt: skip
    over = combined - edge.rule.threshold > 0
    rejected = edge.attack_view()(x).argmax(1) == dataset.spec.classes
    assert rejected.tolist() == over.tolist()


@pytest.mark.parametrize("kind", ["guard", "baseline"])
def test_gradients_reach_the_input_for_every_row(kind, dataset, request):
    guard = request.getfixturevalue(kind)
    x = dataset["test"].x[:20].clone().requires_grad_(True)
    goal, y = Goal("guarded"), dataset["test"].y[:20]
    logits = guard.attack_view()(x)
    reject = torch.autograd.grad(logits[:, -1].sum(), x, retain_graph=True)[0]
    win = torch.autograd.grad(goal.objective(logits, y).sum(), x)[0]
    for grad in (reject, win):
        assert torch.isfinite(grad).all()
        assert (grad.flatten(1).abs().amax(1) > 0).all()


def test_forward_of_the_view_is_the_deployed_one_with_gradients_on(guard, dataset):
    x = dataset["test"].x[:30]
    without = guard.attack_view()(x)
    with_grad = guard.attack_view()(x.clone().requires_grad_(True)).detach()
    assert torch.allclose(without, with_grad, atol=1e-5)
    assert (without.argmax(1) == with_grad.argmax(1)).all()


def test_verdicts_are_json_and_rows_are_independent(guard, dataset):
    x = dataset["test"].x[:12]
    together = guard.judge(x)
    alone = [guard.judge(row[None])[0] for row in x]
    for one, other in zip(together, alone, strict=True):
        assert (one.prediction, one.status, one.reasons) == (
            other.prediction,
            other.status,
            other.reasons,
        )
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
        assert 0 <= one.anomaly_score <= 1
    assert guard.judge(x[:0]) == []


def test_rows_judged_in_parts_are_judged_the_same(guard, dataset, monkeypatch):
    from buckler.guard import build, core

    x = many(dataset)
    whole, (predicted, over) = guard.judge(x), guard.suspicion(x)
    monkeypatch.setattr(core, "_CHUNK", 7)
    parts, (again, close) = guard.judge(x), guard.suspicion(x)
    assert [(v.prediction, v.status) for v in parts] == [(v.prediction, v.status) for v in whole]
    assert torch.equal(again, predicted)
    torch.testing.assert_close(close, over, atol=1e-5, rtol=0)
    monkeypatch.setattr(build, "_CHUNK", 11)
    built = calibrate(dataset, [guard.members[0].module], [1.0], **THREE)
    assert built.rule.threshold == pytest.approx(guard.rule.threshold, abs=1e-4)
    np.testing.assert_allclose(built.rule.combined, guard.rule.combined, rtol=1e-3)


def test_no_forward_sees_more_rows_than_a_part_holds(guard, dataset, monkeypatch):
    from buckler.guard import build, core

    seen = []
    part = TorchClassifier.with_embedding

    def counted(self, rows):
        seen.append(len(rows))
        return part(self, rows)

    monkeypatch.setattr(TorchClassifier, "with_embedding", counted)
    monkeypatch.setattr(core, "_CHUNK", 16)
    monkeypatch.setattr(build, "_CHUNK", 16)
    calibrate(dataset, [guard.members[0].module], [1.0], **THREE)
    guard.judge(many(dataset))
    guard.answer(many(dataset))
    assert max(seen) == 16 * 3, "sixteen rows, three views each"


def test_no_rows_no_answers(guard):
    none = torch.zeros(0, 1, 8, 8)
    predicted, over = guard.suspicion(none)
    assert (len(predicted), len(over)) == (0, 0)
    assert guard.judge(none) == []


def test_suspicion_is_over_zero_exactly_where_a_row_is_suspicious(guard, dataset):
    x = many(dataset)
    _, over = guard.suspicion(x)
    assert [v.status == "SUSPICIOUS" for v in guard.judge(x)] == (over > 0).tolist()


def test_a_map_made_while_judging_still_carries_gradients_later(dataset, trained):
    """The first use of a fresh rule is inside inference mode, the second takes a gradient."""
    guard = calibrate(dataset, [trained], [1.0], review_rate=0.1)
    fresh = replace(guard, rule=replace(guard.rule))
    fresh.judge(dataset["test"].x[:3])
    x = dataset["test"].x[:3].clone().requires_grad_(True)
    grad = torch.autograd.grad(fresh.attack_view()(x)[:, -1].sum(), x)[0]
    assert bool((grad != 0).any())


def test_every_detector_in_one_guard(dataset, trained):
    names = ("confidence", "margin", "energy", "views", "members", "mahalanobis", "vim")
    guard = calibrate(
        dataset,
        [trained, trained],
        [0.7, 0.3],
        views=[Median(2)],
        detectors=names,
        review_rate=0.1,
    )
    x = many(dataset)
    rejected = guard.attack_view()(x).argmax(1) == dataset.spec.classes
    assert rejected.tolist() == [v.status == "SUSPICIOUS" for v in guard.judge(x)]
    z = x[:20].clone().requires_grad_(True)
    grad = torch.autograd.grad(guard.attack_view()(z)[:, -1].sum(), z)[0]
    assert bool((grad.flatten(1).abs().amax(1) > 0).all())


def test_by_default_confidence_alone_decides(dataset, trained):
    guard = calibrate(dataset, [trained], [1.0], review_rate=0.1)
    assert [part.name for part in guard.detectors] == ["confidence"]
    assert guard.views == ()
    verdicts = guard.judge(many(dataset))
    flagged = [v.confidence for v in verdicts if v.status == "SUSPICIOUS"]
    accepted = [v.confidence for v in verdicts if v.status == "ACCEPTED"]
    assert max(flagged) <= min(accepted) + 1e-6


def test_members_are_refused_by_name_for_one_member(dataset, trained):
    with pytest.raises(UsageError, match="leave 'members' out of the detectors"):
        calibrate(dataset, [trained], [1.0], detectors=("members",), review_rate=0.1)


def test_judge_refuses_what_the_spec_refuses(guard):
    with pytest.raises(DataError, match="shape"):
        guard.judge(torch.zeros(2, 1, 7, 8))
    with pytest.raises(DataError, match="finite"):
        guard.judge(torch.full((1, 1, 8, 8), math.nan))


def test_realised_review_rate_is_near_its_target_on_fresh_rows(guard):
    from tests.conftest import blobs

    x, _ = blobs(3000, seed=9)
    accepted = guard.answer(guard.spec.snap(x))[1]
    calibration = guard.rule.calibration
    # Seeded; over calibration draws the rate exceeds `upper` in 5 % of cases.
    assert float((~accepted).float().mean()) <= calibration.upper + 0.02
    assert calibration.expected <= 0.1


def test_combined_score_rises_strictly_with_each_score(guard):
    low, high = -50.0, 80.0
    line = torch.linspace(low, high, 400)
    for index in range(len(guard.detectors)):
        scores = torch.zeros(len(guard.detectors), len(line))
        scores[index] = line
        assert (guard.rule.combine(scores).diff() > 0).all()


def test_ties_in_the_scores_keep_the_map_strict():
    select = torch.zeros(2, 50)
    rule = Calibrated.fit(select, torch.rand(2, 99), 0.1)
    line = torch.linspace(-1, 1, 100).repeat(2, 1)
    assert (rule.combine(line).diff() > 0).all()
    assert np.isfinite(rule.combine(line).numpy()).all()


def test_members_of_weight_zero_are_left_out_and_the_heaviest_leads(dataset, trained):
    guard = calibrate(dataset, [trained] * 3, [0.25, 0.0, 0.75], review_rate=0.1)
    assert guard.weights == (0.75, 0.25)
    with pytest.raises(UsageError, match="weights must be >= 0"):
        calibrate(dataset, [trained], [0.0])


def test_a_review_rate_the_rows_cannot_give_is_refused(dataset, trained):
    with pytest.raises(UsageError, match="calibration rows allow a review rate of"):
        calibrate(dataset, [trained], [1.0], review_rate=0.001)


class Halving:
    """A transform that changes the shape."""

    name, random, surrogate = "halving", False, None

    def __call__(self, x, keys=None):
        return x[..., ::2]


def test_a_transform_that_changes_the_shape_is_refused_by_name(dataset, trained):
    with pytest.raises(UsageError, match="'halving' changes the shape"):
        calibrate(dataset, [trained], [1.0], path=[Halving()], review_rate=0.1)


def test_the_article_guard_is_the_articles(baseline):
    assert baseline.path == (Median(2), JPEG(75), RandomRotation(5.0))
    assert baseline.weights == (0.5, 0.5)
    assert [part.name for part in baseline.detectors] == ["confidence", "forest"]
    assert isinstance(baseline.rule, Thresholds)
    assert baseline.rule.limits == pytest.approx((-math.log(0.8 / 0.2), 0.3))


def test_guard_article_is_the_same_guard(baseline, dataset, trained):
    same = Guard.article(dataset, [trained, trained], confidence=0.8)
    x = dataset["test"].x[:20]
    assert same.judge(x) == baseline.judge(x)


def test_article_flags_by_confidence_under_its_threshold(baseline, dataset):
    verdicts = baseline.judge(many(dataset))
    for verdict in verdicts:
        flagged = "confidence" in verdict.reasons
        if abs(verdict.confidence - 0.8) > 1e-4:
            assert flagged == (verdict.confidence < 0.8)
        assert (verdict.status == "SUSPICIOUS") == bool(verdict.reasons)


def test_resubmission_gives_no_fresh_draw_but_a_changed_bit_and_another_secret_do(
    baseline, dataset
):
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x = baseline.spec.snap(x)
    changed = x.clone()
    changed[0, 0, 0, 0] = (changed[0, 0, 0, 0] + 1 / 255) % 1
    keys = [content_keys(secret, rows) for secret, rows in ((b"a", x), (b"a", x), (b"b", x))]
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]
    assert content_keys(b"a", changed) != keys[0]
    assert baseline.judge(x) == baseline.judge(x)
    assert baseline.random
    rows = dataset["test"].x
    one, two, both = (baseline.attack_view(draws)(rows) for draws in ((0,), (1,), (0, 1)))
    assert not torch.equal(one, two)
    assert torch.allclose(both, (one + two) / 2, atol=1e-5)


def test_fit_temperature_recovers_the_scale_of_calibrated_logits():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20000, 4, generator=generator)
    y = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    # Standard error of the fitted temperature here is about 0.02.
    assert fit_temperature(lambda _: 3 * logits, logits, y) == pytest.approx(3, rel=0.06)


def test_a_random_path_is_seeded_by_content_alone(dataset, trained):
    guard = calibrate(
        dataset, [trained], [1.0], path=[GaussianNoise(0.02)], views=[Median(2)], review_rate=0.1
    )
    x = dataset["test"].x[:6]
    assert guard.judge(x)[2] == replace(guard.judge(x[2:3])[0])
    assert isinstance(guard, Guard)


def test_callers_model_is_untouched(dataset):
    from tests.conftest import TinyNet

    net = TinyNet().eval()
    before = [p.clone() for p in net.parameters()]
    calibrate(dataset, [net], [1.0], review_rate=0.1)
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert not any(len(m._forward_pre_hooks) for m in net.modules())
    assert isinstance(TorchClassifier(net), TorchClassifier)


def test_a_guard_that_computes_no_number_accepts_nothing(guard, dataset):
    import copy

    broken = copy.deepcopy(guard)
    with torch.no_grad():
        broken.members[0].module.body[1].weight[:] = math.nan
    verdicts = broken.judge(dataset["test"].x[:3])
    assert {v.status for v in verdicts} == {"SUSPICIOUS"}
    assert {v.reasons for v in verdicts} == {("not finite",)}
    assert {v.confidence for v in verdicts} == {0.0}
    assert not broken.judge_with_probabilities(dataset["test"].x[:3])[1].any()
    assert not broken.answer(dataset["test"].x[:3])[1].any()


def test_weights_must_be_one_a_member(guard):
    with pytest.raises(UsageError, match="one weight and one temperature a member"):
        replace(guard, weights=(0.5, 0.5))


def test_several_threads_may_judge_at_a_time(guard, dataset):
    from buckler.assess.parallel import side_by_side

    parts = [dataset["test"].x[i : i + 10 + i] for i in range(8)]
    alone = [guard.judge(part) for part in parts]
    together = side_by_side([lambda part=part: guard.judge(part) for part in parts * 5], workers=4)
    assert [[v.status for v in a] for a in together] == [[v.status for v in a] for a in alone] * 5


def test_probabilities_are_what_the_verdict_is_of(guard, dataset):
    x = many(dataset)
    verdicts, probs = guard.judge_with_probabilities(x)
    assert [v.prediction for v in verdicts] == [v.prediction for v in guard.judge(x)]
    assert (probs.shape, probs.dtype) == ((len(x), guard.spec.classes), torch.float32)
    torch.testing.assert_close(probs.sum(1), torch.ones(len(x)))
    names = [guard.spec.class_names[int(label)] for label in probs.argmax(1)]
    assert names == [v.prediction for v in verdicts]
    assert probs.amax(1).tolist() == [v.confidence for v in verdicts]
    assert guard.judge_with_probabilities(x[:0])[1].shape == (0, guard.spec.classes)
