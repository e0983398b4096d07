"""Sticker: what a view shows, and what every view satisfies."""

import pytest
import torch

from buckler import draws
from buckler.errors import UsageError
from buckler.threats import Goal
from buckler.threats.sticker import Sticker

STILL = Sticker(
    size=0.5, scale=(1, 1), rotation=0, perspective=0, brightness=0, contrast=1, down=(0.5, 0.5)
)
WILD = Sticker(size=0.4, scale=(0.5, 1.5), rotation=180, perspective=0.25)


def textures(n: int, side: int, channels: int = 1) -> torch.Tensor:
    return draws.uniform(7, torch.arange(n), 0, (channels, side, side)).double()


def test_head_on_the_texture_stands_there_bit_for_bit() -> None:
    x, texture = torch.full((2, 1, 8, 8), 0.3, dtype=torch.float64), textures(2, 4)
    shown = STILL.show(x, texture, torch.zeros(2, 8))
    expected = x.clone()
    expected[:, :, 2:6, 2:6] = texture
    torch.testing.assert_close(shown, expected, rtol=0, atol=1e-12)
    edge = expected == 0.3
    assert torch.equal(shown[edge], x[edge]), "the picture beside the sticker is untouched"


def test_a_quarter_turn_and_the_ends_of_the_room() -> None:
    x, texture = torch.zeros(1, 1, 8, 8, dtype=torch.float64), textures(1, 4)
    pose = torch.zeros(1, 8)
    pose[0, 3] = 1  # the whole rotation
    turned = Sticker(0.5, (1, 1), 90, 0, 0, 1).show(x, texture, pose)
    torch.testing.assert_close(turned[:, :, 2:6, 2:6], texture.rot90(-1, (2, 3)), atol=1e-7, rtol=0)
    pose = torch.zeros(1, 8)
    pose[0, 1], pose[0, 2] = 1, -1  # down to the bottom, across to the left
    moved = Sticker(0.5, (1, 1), 0, 0, 0, 1).show(x, texture, pose)
    torch.testing.assert_close(moved[:, :, 4:, :4], texture, atol=1e-7, rtol=0)


def test_light_is_contrast_about_the_middle_then_brightness() -> None:
    x, pose = torch.zeros(2, 1, 8, 8), torch.zeros(2, 8)
    pose[0, 6], pose[1, 7] = 1, -1
    shown = Sticker(0.5, (1, 1), 0, 0, 0.2, 2.0).show(x, torch.full((1, 1, 4, 4), 0.6), pose)
    assert shown[:, 0, 4, 4].tolist() == pytest.approx([0.7, 0.4])


def test_a_fine_texture_is_averaged_not_aliased() -> None:
    """A chequered texture of 32 x 32 in 4 x 4 pixels is grey."""
    at = torch.arange(32)
    chequered = ((at[:, None] + at) % 2).double()[None, None]
    shown = STILL.show(torch.zeros(1, 1, 8, 8).double(), chequered, torch.zeros(1, 8))
    torch.testing.assert_close(shown[:, :, 3:5, 3:5], torch.full((1, 1, 2, 2), 0.5).double())


def test_the_gradient_reaches_the_texture() -> None:
    x, texture = textures(2, 8), 0.2 + 0.5 * textures(2, 4)
    poses = 0.7 * WILD.poses(0, torch.arange(2), 0, 1)[:, 0].double()
    assert torch.autograd.gradcheck(
        lambda t: WILD.show(x, t, poses), texture.requires_grad_(True), atol=1e-6
    )


@pytest.mark.parametrize("threat", [Sticker(), WILD, Sticker(box=(-2.1179, 2.64))])
@pytest.mark.parametrize("shape", [(1, 20, 31), (3, 24, 24)])
def test_every_view_is_contained(threat: Sticker, shape: tuple[int, ...]) -> None:
    low, high = threat.box
    rows = torch.arange(300)
    x = (low + (high - low) * draws.uniform(0, rows, 0, shape)).clamp(low, high)
    views = threat.random_point(x, 1, rows, 0)
    assert bool(threat.contains(x, views).all())
    assert bool((threat.distance(x, views) > 0).all())
    some = torch.tensor([17, 4])
    torch.testing.assert_close(
        threat.random_point(x[some], 1, some, 0), views[some], atol=1e-6, rtol=0
    )
    assert threat.random_point(x[:0], 1, rows[:0], 0).shape == (0, *shape)


def test_the_most_tilted_views_are_contained() -> None:
    threat = Sticker(0.3, (1, 1), 0, 0.25)
    poses = torch.zeros(4, 8)
    poses[:, 4:6] = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    x = torch.zeros(4, 1, 60, 60)
    views = threat.show(x, torch.ones(1, 1, 4, 4), poses)
    assert bool(threat.contains(x, views).all())
    head_on = Sticker(0.3, (1, 1), 0, 0).reach(x).window(x)[0]
    assert bool((threat.distance(x, views) > head_on**2).all()), "a tilt must show"


def test_what_no_view_can_be_is_not_contained() -> None:
    x = torch.zeros(2, 1, 40, 40)
    x_adv = x.clone()
    x_adv[0, 0, 0, 0] = x_adv[0, 0, 39, 39] = 1
    x_adv[1, 0, 0, 0] = 1.5
    assert Sticker(0.2).contains(x, x_adv).tolist() == [False, False]
    assert bool(Sticker(0.2).contains(x, Sticker(0.2).project(x, x_adv)).all())


def test_poses_are_keyed_by_seed_row_and_draw() -> None:
    rows = torch.tensor([5, 9])
    poses = Sticker().poses(0, rows, 3, 4)
    assert poses.shape == (2, 4, 8)
    assert torch.equal(Sticker().poses(0, rows[1:], 3, 4), poses[1:])
    for other in (Sticker().poses(1, rows, 3, 4), Sticker().poses(0, rows, 4, 4)):
        assert not bool((other == poses).any())


def test_values() -> None:
    threat = Sticker(goal=Goal("targeted", torch.tensor([1, 2])))
    assert threat.take(torch.tensor([1])).goal.target.tolist() == [2]
    written = threat.with_goal(Goal()).to_dict()
    assert (written["kind"], written["goal"], written["size"]) == ("sticker", "untargeted", 0.3)
    assert Sticker(0.5).texels(torch.zeros(1, 3, 32, 40)) == 20
    assert str(threat) == "sticker of 0.3 of the shorter side"
    assert threat.unbounded(torch.zeros(1, 1, 8, 8)).size == 1.0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"size": 0.9}, r"must fit into the image.*Got size=0\.9, scale=\(0\.8, 1\.2\)"),
        ({"scale": (1.2, 0.8)}, r"0 < scale\[0\] <= scale\[1\]"),
        ({"rotation": 181}, r"rotation must be in \[0, 180\].*Got rotation=181"),
        ({"perspective": 0.3}, r"perspective in \[0, 0\.25\].*perspective=0\.3"),
        ({"brightness": 2}, r"brightness must be in \[0, 1\].*brightness=2"),
        ({"contrast": 0.5}, r"contrast at least 1.*contrast=0\.5"),
        ({"down": (0.5, 0.1)}, r"ranges inside \[0, 1\]\. Got down=\(0\.5, 0\.1\)"),
        ({"box": (1, 0)}, r"box must be"),
    ],
)
def test_an_impossible_sticker_is_refused(fields: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Sticker(**fields)


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (2, 3, 4, 4), (2, 1, 4, 5), (2, 1, 2, 2)])
def test_a_texture_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"a texture for 2 rows must have the shape \(1 or 2, 1"):
        STILL.show(torch.zeros(2, 1, 8, 8), torch.zeros(shape), torch.zeros(2, 8))
