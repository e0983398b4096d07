"""losses: against torch's own, and free of the traps of the field."""

import pytest
import torch
from torch.nn import functional

from buckler.errors import UsageError
from buckler.losses import LOSSES, cross_entropy, dlr, margin
from buckler.threats import Goal

ROWS = 50


def logits_and_labels(classes: int, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(ROWS, classes, generator=generator, dtype=torch.float64) + shift
    return logits, torch.randint(classes, (ROWS,), generator=generator)


@pytest.mark.parametrize("shift", [0.0, -100.0, 100.0])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_untargeted_cross_entropy_is_torchs(classes: int, shift: float) -> None:
    logits, y = logits_and_labels(classes, shift)
    expected = functional.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, y, Goal()), expected)


@pytest.mark.parametrize("classes", [3, 10])
def test_targeted_cross_entropy_is_log_p_of_the_target(classes: int) -> None:
    logits, y = logits_and_labels(classes)
    target = (y + 1) % classes
    expected = -functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, y, Goal("targeted", target)), expected)
    one = -functional.cross_entropy(logits, torch.full_like(y, 2), reduction="none")
    torch.testing.assert_close(cross_entropy(logits, y, Goal("targeted", 2)), one)


def test_guarded_and_denial_cross_entropy() -> None:
    """guarded with 4 outputs: −log P(true class or rejected) has as many terms as the wins."""
    logits, y = logits_and_labels(4)
    y = y.clamp_max(2)
    p = logits.softmax(1)
    losing = p.gather(1, y[:, None])[:, 0] + p[:, 3]
    torch.testing.assert_close(cross_entropy(logits, y, Goal("guarded")), -losing.log())
    torch.testing.assert_close(cross_entropy(logits, y, Goal("denial")), p[:, 3].log())


@pytest.mark.parametrize("goal", [Goal(), Goal("targeted", 1), Goal("guarded"), Goal("denial")])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_are_finite_and_the_losses_rise_with_a_win(name: str, goal: Goal) -> None:
    logits, y = logits_and_labels(5, shift=-50.0)
    y = y.clamp(2, 3)
    logits.requires_grad_(True)
    loss = LOSSES[name](logits, y, goal)
    assert loss.shape == (ROWS,)
    grad = torch.autograd.grad(loss.sum(), logits)[0]
    assert bool(torch.isfinite(grad).all())
    assert bool((grad != 0).any(1).all())
    if name not in ("dlr", "probability"):
        allowed = goal.allowed(y, 5)
        assert bool((grad[allowed] >= 0).all())
        assert bool((grad[~allowed] <= 0).all())


def test_the_targeted_dlr_is_the_papers_formula() -> None:
    logits = torch.tensor([[5.0, 3.0, 1.0, -1.0, 4.0]], dtype=torch.float64)
    loss = LOSSES["dlr"](logits, torch.tensor([0]), Goal("targeted", 2))
    assert float(loss) == pytest.approx((1.0 - 5.0) / (5.0 - (3.0 + 1.0) / 2))
    with pytest.raises(UsageError, match=r"at least 4 classes with a target\. Got 3"):
        LOSSES["dlr"](logits[:, :3], torch.tensor([0]), Goal("targeted", 2))


def test_pair_is_about_two_classes_and_probability_about_probabilities() -> None:
    logits, y = torch.tensor([[2.0, 1.0, 9.0]]), torch.tensor([0])
    assert float(LOSSES["pair"](logits, y, Goal("targeted", 1))) == -1.0
    assert float(LOSSES["pair"](logits, y, Goal())) == 7.0
    p = logits.softmax(1)[0]
    assert float(LOSSES["probability"](logits, y, Goal())) == pytest.approx(float(p[2] - p[0]))


@pytest.mark.parametrize("name", ["margin", "dlr"])
def test_all_logits_negative(name: str) -> None:
    """torchattacks' margin is 0 there, since it starts its maximum at 0 (its issue 184)."""
    logits = torch.tensor([[-5.0, -3.0, -9.0], [-1.0, -3.0, -9.0]])
    loss = LOSSES[name](logits, torch.tensor([0, 0]), Goal())
    assert loss[0] > 0 > loss[1]
    shifted = LOSSES[name](logits + 100, torch.tensor([0, 0]), Goal())
    torch.testing.assert_close(loss, shifted)


def test_margin_is_the_objective() -> None:
    logits, y = logits_and_labels(5)
    assert torch.equal(margin(logits, y, Goal()), Goal().objective(logits, y))


def test_cross_entropy_of_saturated_logits_stays_a_number() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0]), Goal())
    grad = torch.autograd.grad(loss.sum(), logits)[0]
    assert bool(torch.isfinite(loss).all())
    assert bool(torch.isfinite(grad).all())


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e6])
def test_dlr_is_free_of_scale_and_shift(scale: float) -> None:
    logits, y = logits_and_labels(6)
    torch.testing.assert_close(dlr(logits * scale + 3, y, Goal()), dlr(logits, y, Goal()))


def test_dlr_is_the_papers_formula() -> None:
    logits, y = logits_and_labels(6)
    top = logits.sort(1, descending=True).values
    own = logits.gather(1, y[:, None])[:, 0]
    best_other = torch.where(logits.argmax(1) == y, top[:, 1], top[:, 0])
    expected = -(own - best_other) / (top[:, 0] - top[:, 2])
    torch.testing.assert_close(dlr(logits, y, Goal()), expected)


def test_dlr_refuses_two_classes() -> None:
    logits, y = logits_and_labels(2)
    with pytest.raises(UsageError, match=r"at least 3 classes\. Got 2: use loss='margin'"):
        dlr(logits, y, Goal())


def test_selective_looks_at_the_classifier_first_and_then_at_the_detector_alone() -> None:
    y = torch.tensor([0, 0, 0])
    logits = torch.tensor(
        [
            [2.0, 1.0, 9.0],  # right: the detector is ignored
            [1.0, 2.0, 5.0],  # wrong, rejected: only the detector counts
            [1.0, 2.0, 1.5],  # wrong, accepted: won
        ]
    )
    loss = LOSSES["selective"](logits, y, Goal("guarded"))
    assert loss.tolist() == [-1.0, -3.0, 0.5]
    plain = LOSSES["selective"](logits, y, Goal())
    assert torch.equal(plain, LOSSES["margin"](logits, y, Goal()))
