"""Masks against patches: coverage by enumeration, proofs against every patch of a small world."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from buckler.attacks import PatchAttack
from buckler.certify.masks import ABSTAINED, Masked, covering
from buckler.errors import UsageError
from buckler.threats import Patch

SIDE, CLASSES = 6, 3
THREAT = Patch((2, 2))


class Gullible(nn.Module):
    """Three classes by three patterns of light and dark; four white pixels together say class 2."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        signs = torch.rand(CLASSES, SIDE * SIDE, generator=torch.Generator().manual_seed(seed))
        self.patterns = (signs > 0.5).float() * 2 - 1

    def forward(self, x: Tensor) -> Tensor:
        logits = (x.flatten(1) - 0.5) @ self.patterns.T
        white = functional.avg_pool2d(x, 2, 1).flatten(1).amax(1)
        trick = 400 * (white - 0.95).clamp_min(0)
        return torch.cat([logits[:, :2], logits[:, 2:] + trick[:, None]], 1)


def small_net(seed: int = 0) -> Gullible:
    return Gullible(seed)


def images(n: int, seed: int = 1) -> Tensor:
    """Patterns from hardly to clearly seen, in noise; nothing white."""
    patterns = Gullible().patterns[torch.arange(n) % CLASSES].reshape(n, 1, SIDE, SIDE)
    noise = torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) - 0.5
    return 0.5 + torch.linspace(0, 0.25, n).view(-1, 1, 1, 1) * patterns + 0.3 * noise


def every_patch(x: Tensor, values: tuple[float, ...] = (0.0, 1.0)) -> Tensor:
    """Each image (1, h, w) that one 2×2 patch of these values makes of x."""
    found = []
    for top, left in product(range(SIDE - 1), repeat=2):
        for content in product(values, repeat=4):
            copy = x.clone()
            copy[0, top : top + 2, left : left + 2] = torch.tensor(content).reshape(2, 2)
            found.append(copy)
    return torch.stack(found)


@given(
    high=st.integers(1, 9),
    wide=st.integers(1, 9),
    tall=st.integers(1, 9),
    broad=st.integers(1, 9),
    per_side=st.integers(1, 6),
)
@settings(deadline=None, max_examples=80)
def test_each_patch_lies_under_one_mask(
    high: int, wide: int, tall: int, broad: int, per_side: int
) -> None:
    tall, broad = min(tall, high), min(broad, wide)
    hidden = covering(Patch((tall, broad)), torch.zeros(1, 1, high, wide), per_side)
    assert 1 <= len(hidden) <= per_side**2
    for top, left in product(range(high - tall + 1), range(wide - broad + 1)):
        under = hidden[:, top : top + tall, left : left + broad].flatten(1).all(1)
        assert bool(under.any())


def test_masks_are_no_larger_than_they_must_be() -> None:
    """28 pixels, a patch of 4: 25 places; six masks along a side answer for 5 each, so 8 pixels."""
    hidden = covering(Patch((4, 4)), torch.zeros(1, 28, 28), 6)
    assert len(hidden) == 25, "five along a side are enough"
    assert set(hidden.sum((1, 2)).tolist()) == {64}
    place = covering(Patch((3, 2), place=(4, 5)), torch.zeros(1, 28, 28), 6)
    assert place.sum() == 6
    assert bool(place[0, 4:7, 5:7].all())


def test_no_patch_moves_a_certified_answer() -> None:
    """All 400 patches of black and white on each image; the bare model falls to many of them."""
    net = small_net()
    masked = Masked(net, THREAT, per_side=3, fill=0.5)
    x = images(36)
    certified, accepted, served = masked.certified(x), masked.accepted(x), masked.answers(x)
    sure = (certified != ABSTAINED).nonzero()[:, 0]
    assert 8 <= len(sure) < 34
    assert torch.equal(certified[sure], served[sure])
    assert torch.equal(certified[sure], accepted[sure]), "two masks are one where they are the same"
    bare_moved = moved = 0
    for row in range(36):
        attacked = every_patch(x[row])
        after, spoken = masked.answers(attacked), masked.accepted(attacked)
        if row in sure:
            assert set(after.tolist()) == {int(served[row])}
            bare_moved += bool((net(attacked).argmax(1) != net(x[row : row + 1]).argmax(1)).any())
        moved += bool((after != served[row]).any())
        if accepted[row] != ABSTAINED:
            assert set(spoken.tolist()) <= {int(accepted[row]), ABSTAINED}
    assert bare_moved >= 3, "these patches must be able to fool the bare model"
    assert moved >= 3, "and some rows without a certificate behind the masks"


def test_which_rows_are_certified_against_an_oracle() -> None:
    """Class 1 where the image's sum is above 4: with black masks, the lightest pair decides."""

    def bright(x: Tensor) -> Tensor:
        total = x.flatten(1).sum(1) - 4
        return torch.stack([torch.zeros_like(total), total], 1)

    x = images(80) * torch.linspace(0.1, 1.2, 80).view(-1, 1, 1, 1)
    masked = Masked(bright, THREAT, per_side=3)
    hidden = covering(THREAT, x, 3)
    expected, single = [], []
    for row in x:
        sums = [[float(row[0][~(one | other)].sum()) > 4 for other in hidden] for one in hidden]
        flat = {answer for line in sums for answer in line}
        alone = {sums[i][i] for i in range(len(hidden))}
        expected.append(int(flat.pop()) if len(flat) == 1 else ABSTAINED)
        single.append(int(alone.pop()) if len(alone) == 1 else ABSTAINED)
    assert masked.certified(x).tolist() == expected
    assert masked.accepted(x).tolist() == single
    assert set(expected) == {0, 1, ABSTAINED}


def test_a_certified_row_survives_the_patch_attack() -> None:
    net, x = small_net(), images(45, 3)
    masked = Masked(net, THREAT, per_side=3, fill=0.5)
    y = masked.certified(x)
    x, y = x[y != ABSTAINED], y[y != ABSTAINED]
    assert len(x) >= 8
    for model, steps in ((net, 40), (masked, 5)):
        x_adv = PatchAttack(steps=steps, places=4, probe=2, restarts=2)(model, x, y, THREAT)
        assert bool(THREAT.contains(x, x_adv).all())
        assert torch.equal(masked.answers(x_adv), y)
        if model is net:
            assert int((net(x_adv).argmax(1) != y).sum()) >= 3


def test_scores_have_the_served_answer_on_top_and_a_gradient() -> None:
    masked, x = Masked(small_net(), THREAT, per_side=3), images(30, 5).requires_grad_()
    scores = masked(x)
    assert torch.equal(scores.argmax(1), masked.answers(x))
    grad = torch.autograd.grad(scores[:, 0].sum(), x)[0]
    hidden = covering(THREAT, x, 3)
    net = masked.model
    soft = [net(torch.where(mask, 0.0, x)).log_softmax(1)[:, 0] for mask in hidden]
    wanted = torch.autograd.grad(torch.stack(soft).mean(0).sum(), x)[0]
    assert torch.allclose(grad, wanted, atol=1e-6)
    assert bool((grad.flatten(1).abs().sum(1) > 0).all())


def test_rows_do_not_feel_their_batch() -> None:
    masked, x = Masked(small_net(), THREAT, per_side=4, fill=0.5), images(12, 8)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for ask in (masked.answers, masked.accepted, masked.certified):
        assert torch.equal(ask(x)[order], ask(x[order]))
        assert torch.equal(ask(x)[:1], ask(x[:1]))
        assert ask(x[:0]).shape == (0,)


def test_certificates_are_sentences() -> None:
    masked, x = Masked(small_net(), THREAT, per_side=3, fill=0.5), images(45)
    found = masked.certificates(x)
    assert [c.label for c in found] == [
        None if label == ABSTAINED else label for label in masked.certified(x).tolist()
    ]
    sure = next(c for c in found if not c.abstained)
    assert str(sure) == (
        f"the model behind 9 masks answers {sure.label} under a patch of 2 x 2 pixels anywhere, "
        "whatever it shows"
    )
    weaker = next(c for c in masked.certificates(x, abstaining=True) if not c.abstained)
    assert "or abstains under a patch" in str(weaker)


def test_what_is_refused() -> None:
    x = images(2)
    with pytest.raises(UsageError, match="per_side must be >= 1"):
        covering(THREAT, x, 0)
    with pytest.raises(UsageError, match="must lie inside the image"):
        covering(Patch((7, 2)), x, 3)
    with pytest.raises(UsageError, match="certify nothing"):
        Masked(lambda x: torch.full((len(x), 3), torch.nan), THREAT).certified(x)
