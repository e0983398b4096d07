"""StickerAttack: the texture that is best in every view, and success that is counted afresh."""

import pytest
import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.sticker import StickerAttack, sticker_success
from buckler.errors import UsageError
from buckler.testing import check_attack
from buckler.threats import Goal, LpBall
from buckler.threats.sticker import Sticker

SMALL = {"steps": 4, "views": 3, "confirm": 5}
PLAIN = {"rotation": 0, "perspective": 0, "brightness": 0, "contrast": 1}
STILL = Sticker(0.5, (1, 1), down=(0.5, 0.5), across=(0.5, 0.5), **PLAIN)


@pytest.mark.parametrize(
    ("attack", "threat", "shape"),
    [
        (StickerAttack(**SMALL), Sticker(), (1, 10, 12)),
        (StickerAttack(**SMALL, texels=9), Sticker(0.2, box=(-2.1179, 2.64)), (3, 9, 8)),
        (
            StickerAttack(**SMALL),
            Sticker(0.2, goal=Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0]))),
            (8, 8),
        ),
    ],
)
def test_contract(attack, threat, shape) -> None:
    check_attack(attack, threat, shape=shape)


def brightness(above: float):
    """Class 1 where the picture's sum is above this."""

    def model(x: Tensor) -> Tensor:
        total = x.flatten(1).sum(1)
        return torch.stack([torch.zeros_like(total), total - above], 1)

    return model


@pytest.mark.parametrize("universal", [False, True])
def test_the_best_texture_of_a_model_of_brightness_is_white(universal: bool) -> None:
    x, y = torch.full((3, 1, 10, 10), 0.2, dtype=torch.float64), torch.zeros(3).long()
    attack = StickerAttack(steps=25, views=4, confirm=5, universal=universal)
    texture = attack.textures(brightness(1e3), x, y, Sticker())
    assert texture.shape == (1 if universal else 3, 1, 4, 4)
    assert bool((texture == 1).all())
    dark = attack.textures(brightness(-1e3), x, torch.ones(3).long(), Sticker())
    assert bool((dark == 0).all())


def test_head_on_the_linear_optimum_is_met() -> None:
    """No randomness: the texture is the corner of the box along the weights under the sticker."""
    w = draws.normal(1, torch.tensor([0]), 0, (1, 8, 8)).double()

    def model(x: Tensor) -> Tensor:
        gain = (w * x).flatten(1).sum(1)
        return torch.stack([torch.full_like(gain, 1e3), gain], 1)

    x, y = draws.uniform(2, torch.arange(2), 0, (1, 8, 8)).double(), torch.zeros(2).long()
    x_adv = StickerAttack(steps=30, views=1, confirm=1)(model, x, y, STILL)
    expected = x.clone()
    expected[:, :, 2:6, 2:6] = (w[0, :, 2:6, 2:6] > 0).double()
    torch.testing.assert_close(x_adv, expected)


def right_half(x: Tensor) -> Tensor:
    """Class 1 where the brighter half is the right one."""
    half = x.shape[3] // 2
    gain = x[..., half:].flatten(1).sum(1) - x[..., :half].flatten(1).sum(1)
    return torch.stack([torch.zeros_like(gain), gain], 1)


def test_success_is_the_share_of_fresh_views() -> None:
    """The place is uniform, so a white sticker wins in half of the views: 400 draws a row, within
    five standard errors (false alarm < 1e-5)."""
    threat = Sticker(0.25, (1, 1), down=(0.5, 0.5), **PLAIN)
    x, y = torch.zeros(2, 1, 16, 16), torch.zeros(2).long()
    white = torch.ones(1, 1, 4, 4)
    rate = sticker_success(right_half, x, y, threat, white, views=400)
    assert rate.shape == (2,)
    assert rate.tolist() == pytest.approx([0.5, 0.5], abs=0.125)
    assert float(rate[0]) != float(rate[1]), "every row has views of its own"
    again = sticker_success(
        right_half, x[1:], y[1:], threat, white, views=400, rows=torch.tensor([1])
    )
    nothing = sticker_success(right_half, x, y, threat, torch.zeros(1, 1, 4, 4))
    assert nothing.tolist() == [0, 0]
    assert torch.equal(again, rate[1:])
    assert sticker_success(right_half, x[:0], y[:0], threat, white).shape == (0,)


def test_no_view_is_seen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made on some views, chosen on others, confirmed on yet others: one of them in two parts
    would make success look larger than it is. Only the two textures share views, to be compared."""
    seen = []
    original = Sticker.poses

    def spy(*arguments) -> Tensor:
        seen.append(original(*arguments))
        return seen[-1]

    monkeypatch.setattr(Sticker, "poses", spy)
    x, y = torch.zeros(3, 1, 10, 10), torch.zeros(3).long()
    attack = StickerAttack(**SMALL)
    attack(brightness(1e3), x, y, Sticker())
    sticker_success(brightness(1e3), x, y, Sticker(), torch.ones(1, 1, 4, 4), views=9, seed=0)
    poses = torch.cat([some.flatten(0, 1) for some in seen])
    assert len(poses) == 3 * (4 * 3 + 5 + 5 + 9)
    assert len(poses.unique(dim=0)) == len(poses)


def test_a_row_is_won_only_where_its_share_of_views_is() -> None:
    threat = Sticker(0.25, (1, 1), down=(0.5, 0.5), **PLAIN)
    x, y = torch.zeros(20, 1, 16, 16), torch.zeros(20).long()
    for share, least, most in [(0.2, 18, 20), (0.9, 0, 2)]:
        attack = StickerAttack(steps=8, views=4, confirm=20, share=share)
        x_adv = attack(right_half, x, y, threat)
        won = int((right_half(x_adv).argmax(1) == 1).sum())
        assert least <= won <= most, f"{won} of 20 rows with share {share}"


def test_a_sticker_that_never_helps_is_not_put_on() -> None:
    x, y = torch.ones(2, 1, 10, 10), torch.zeros(2).long()  # white already, and brightness is all
    x_adv = StickerAttack(**SMALL)(brightness(1e3), x, y, Sticker(brightness=0.3))
    assert bool((x_adv.flatten(1).sum(1) <= 100).all())
    objective = Goal().objective(brightness(1e3)(x_adv), y)
    assert bool((objective >= Goal().objective(brightness(1e3)(x), y)).all())


def test_one_texture_wins_rows_it_was_not_made_on() -> None:
    x = draws.uniform(0, torch.arange(12), 0, (1, 12, 12))
    y, model = torch.zeros(12).long(), brightness(80)
    threat = Sticker(0.5, (0.9, 1.1))
    texture = StickerAttack(steps=20, views=4, universal=True).textures(model, x[:6], y[:6], threat)
    made = sticker_success(model, x[6:], y[6:], threat, texture, rows=torch.arange(6, 12))
    noise = draws.uniform(1, torch.arange(1), 0, (1, 8, 8))
    random = sticker_success(model, x[6:], y[6:], threat, noise, rows=torch.arange(6, 12))
    assert float(made.mean()) > 0.5 > 0.2 > float(random.mean())


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"steps": 0}, r"steps, views and confirm >= 1, and texels 0 or >= 4\. Got steps=0"),
        ({"views": 0}, "views=0"),
        ({"confirm": 0}, "confirm=0"),
        ({"texels": 3}, "texels=3"),
        ({"step_size": 0.0}, r"step_size must be > 0.*Got step_size=0\.0"),
        ({"share": 0.0}, r"share in \(0, 1\].*share=0\.0"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        StickerAttack(**fields)


def test_wrong_use_is_refused() -> None:
    x, y = torch.zeros(0, 1, 8, 8), torch.zeros(0).long()
    with pytest.raises(UsageError, match=r"StickerAttack needs a Sticker\. Got linf eps 0\.1"):
        StickerAttack()(right_half, x, y, LpBall("linf", 0.1))
    with pytest.raises(UsageError, match=r"needs at least one row\. Got none"):
        StickerAttack(universal=True).textures(right_half, x, y, STILL)
    with pytest.raises(UsageError, match=r"views must be at least 1\. Got 0"):
        sticker_success(right_half, x, y, STILL, torch.zeros(1, 1, 4, 4), views=0)
