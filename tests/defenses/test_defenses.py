"""Every defence through the one contract, then each against an oracle of its own."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from buckler import draws
from buckler.defenses import (
    JPEG,
    GaussianNoise,
    Median,
    RandomRotation,
    apply,
    check_transform,
    defense,
)
from buckler.errors import UsageError
from buckler.protocols import Defense
from buckler.testing import check_defense

CONTRACT = [  # a new defence joins by one line
    Median(2),
    Median(3),
    Median(5),
    JPEG(75),
    JPEG(10),
    RandomRotation(5.0),
    RandomRotation(45.0),
    GaussianNoise(0.05),
]
SHAPES = [(1, 8, 8), (3, 9, 12), (3, 20, 7), (1, 1, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("part", CONTRACT, ids=lambda part: part.name)
def test_contract(part: Defense, shape: tuple[int, ...]) -> None:
    check_defense(part, shape=shape)
    check_transform(part, draws.uniform(0, torch.arange(4), 0, shape), (0.0, 1.0))


@pytest.mark.parametrize("part", CONTRACT, ids=lambda part: part.name)
def test_names_lead_back(part: Defense) -> None:
    assert isinstance(part, Defense)
    assert defense(part.name) == part


def smooth(n: int, channels: int, height: int, width: int) -> Tensor:
    """Images like photographs: noise, blurred."""
    noise = draws.normal(3, torch.arange(n), 0, (channels, height, width)).numpy()
    x = ndimage.gaussian_filter(noise, (0, 0, 3, 3), mode="wrap")
    low, high = x.min((1, 2, 3), keepdims=True), x.max((1, 2, 3), keepdims=True)
    return torch.from_numpy((x - low) / (high - low)).float()


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 12), (1, 2, 13)])
def test_median_against_scipy(size: int, shape: tuple[int, ...]) -> None:
    x = draws.uniform(0, torch.arange(6), 0, shape)
    expected = ndimage.median_filter(x.numpy(), (1, 1, size, size), mode="nearest")
    assert np.array_equal(Median(size)(x).numpy(), expected)


def test_median_is_its_own_derivative() -> None:
    x = draws.uniform(0, torch.arange(1), 0, (1, 5, 5)).requires_grad_(True)
    out = Median(3)(x)
    grad = torch.autograd.grad(out[0, 0, 2, 2], x)[0]
    chosen = (x[0, 0] == out[0, 0, 2, 2]).nonzero()
    assert float(grad.sum()) == 1
    assert float(grad[0, 0, *chosen[0]]) == 1


def test_median_removes_one_pixel() -> None:
    x = torch.full((1, 1, 8, 8), 0.4)
    x[0, 0, 3, 4] = 1
    assert torch.equal(Median(3)(x), torch.full_like(x, 0.4))


def test_jpeg_keeps_the_channel_order() -> None:
    colours = torch.eye(3)[:, :, None, None].expand(3, 3, 16, 16).contiguous()
    out = JPEG(75)(colours)
    assert out.argmax(1).flatten(1).float().mean(1).tolist() == [0, 1, 2]
    assert float((out - colours).abs().max()) < 0.05
    soft = JPEG(75).surrogate(colours)
    assert soft.argmax(1).flatten(1).float().mean(1).tolist() == [0, 1, 2]


def test_jpeg_keeps_grey_grey() -> None:
    x = smooth(2, 1, 8, 8)
    assert JPEG(75)(x).shape == x.shape
    assert JPEG(75).surrogate(x).shape == x.shape


def test_jpeg_is_a_real_file_of_that_quality() -> None:
    """Pillow's encoder (the same library and tables) agrees within two levels on average."""
    import io

    from PIL import Image

    x = smooth(1, 1, 24, 40)
    stream = io.BytesIO()
    pixels = (x[0, 0] * 255).round().byte().numpy()
    Image.fromarray(pixels).save(stream, "JPEG", quality=30)
    expected = np.asarray(Image.open(stream), np.float32) / 255
    assert float(np.abs(JPEG(30)(x)[0, 0].numpy() - expected).mean()) < 2 / 255


def test_jpeg_gives_levels_a_file_can_hold() -> None:
    out = JPEG(75)(draws.uniform(0, torch.arange(3), 0, (3, 9, 12))) * 255
    torch.testing.assert_close(out, out.round(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 32), (19, 29), (8, 8)])
def test_the_jpeg_surrogate_is_close(quality: int, channels: int, size: tuple[int, int]) -> None:
    x = smooth(4, channels, *size)
    part = JPEG(quality)
    gap = float((part.surrogate(x) - part(x)).abs().mean())
    assert gap < 0.03, f"mean difference {gap:.4f}"
    assert gap < float((1 - x - part(x)).abs().mean()) / 3


def test_jpeg_wants_images() -> None:
    for shape in ((2, 8, 8), (2, 4, 8, 8), (2, 64)):
        with pytest.raises(UsageError, match=r"JPEG needs images \(n, 1 or 3, h, w\)\. Got \(2,"):
            JPEG()(torch.zeros(shape))


def turned_and_not(part: RandomRotation, n: int = 400) -> tuple[Tensor, Tensor]:
    x = smooth(1, 1, 12, 18).expand(n, -1, -1, -1)
    out = part(x, torch.arange(n))
    return out, (out == x).flatten(1).all(1)


def test_half_of_the_rotations_are_the_identity() -> None:
    """Within 4 standard errors: a right implementation fails in 1 of 15,000 seeds."""
    _, same = turned_and_not(RandomRotation(5.0))
    assert abs(float(same.float().mean()) - 0.5) < 4 * 0.5 / 400**0.5


@pytest.mark.parametrize("degrees", [5.0, 20.0, 45.0])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 20), (1, 20, 9)])
def test_no_corner_and_no_edge_is_empty(degrees: float, shape: tuple[int, ...]) -> None:
    x = torch.tensor([0.0, 0.3, 0.7, 1.0]).repeat(20)[:, None, None, None].repeat(1, *shape)
    assert torch.equal(RandomRotation(degrees)(x, torch.arange(80)), x)
    # With a black pixel in the middle, nothing but the sampling keeps the edges as they are.
    x = x[1:]
    middle = x.clone()
    middle[..., shape[1] // 2, shape[2] // 2] = 0
    turned = RandomRotation(degrees)(middle, torch.arange(79))
    assert not torch.equal(turned, middle)
    for edge in (turned[..., 0, :], turned[..., -1, :], turned[..., 0], turned[..., -1]):
        expected = x[:, :, :1, 0].expand_as(edge)
        torch.testing.assert_close(edge, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(9, 21), (21, 9), (16, 16)])
def test_the_crop_never_reads_beyond_the_image(shape: tuple[int, int]) -> None:
    """A ramp continues by replication beyond the edge, so reading there would flatten it: each
    output is checked against the rotation computed in pixels."""
    height, width = shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ramps = torch.stack([columns / width, rows / height])[:, None].float()
    part = RandomRotation(30.0)
    keys = torch.arange(40)
    across = part(ramps[:1].expand(40, -1, -1, -1), keys)[:, 0] * width
    down = part(ramps[1:].expand(40, -1, -1, -1), keys)[:, 0] * height
    # Away from the half pixel that is clamped at the border, both are linear in the pixel's place.
    px, py = columns - (width - 1) / 2, rows - (height - 1) / 2
    inner = (slice(2, -2), slice(2, -2))
    for row in range(40):
        u, v = across[row] - (width - 1) / 2, down[row] - (height - 1) / 2
        centre = (slice(height // 2 - 1, height // 2 + 2), slice(width // 2 - 1, width // 2 + 2))
        slope_x = (u[centre][:, -1] - u[centre][:, 0]).mean() / 2  # zoom · cos
        slope_y = (u[centre][-1] - u[centre][0]).mean() / 2  # −zoom · sin
        assert torch.allclose(u[inner], (slope_x * px + slope_y * py)[inner], atol=1e-3)
        assert torch.allclose(v[inner], (-slope_y * px + slope_x * py)[inner], atol=1e-3)
        angle = torch.atan2(slope_y.abs(), slope_x)
        assert float(angle) <= np.radians(30) + 1e-4
        corners = slope_x * width / 2 + slope_y.abs() * height / 2
        assert float(corners) <= width / 2 + 1e-3
        assert float(slope_x * height / 2 + slope_y.abs() * width / 2) <= height / 2 + 1e-3


def test_angles_reach_both_sides() -> None:
    out, same = turned_and_not(RandomRotation(45.0))
    x = smooth(1, 1, 12, 18)
    lean = ((out - x)[~same] * torch.linspace(-1, 1, 12)[:, None]).sum((1, 2, 3))
    assert bool((lean > 0).any())
    assert bool((lean < 0).any())


def test_noise_has_its_sigma_and_is_clipped() -> None:
    x = torch.full((500, 1, 8, 8), 0.5)
    noise = GaussianNoise(0.05)(x, torch.arange(500)) - x
    assert abs(float(noise.std()) - 0.05) < 0.001  # 5 standard errors: 1 in a million seeds
    assert abs(float(noise.mean())) < 0.0015
    edges = GaussianNoise(0.5)(torch.ones(50, 1, 8, 8))
    assert float(edges.max()) == 1
    assert float(edges.min()) >= 0


@pytest.mark.parametrize("part", [RandomRotation(), GaussianNoise()], ids=lambda part: part.name)
def test_without_keys_rows_are_numbered(part: Defense) -> None:
    x = smooth(6, 1, 8, 8)
    assert torch.equal(part(x), part(x, torch.arange(6)))


def test_apply_is_forward_deployed_backward_surrogate() -> None:
    part, x = JPEG(75), smooth(2, 3, 16, 16)
    z, s = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    out = apply(part, z)
    assert torch.equal(out.detach(), part(x))
    expected = torch.autograd.grad((part.surrogate(s) ** 2).sum(), s)[0]
    # d(out²) = 2·out, at the hard value: rebuild it for the surrogate's path.
    grad = torch.autograd.grad((2 * part(x) * apply(part, z)).sum(), z)[0]
    by_hand = torch.autograd.grad((2 * part(x) * part.surrogate(s)).sum(), s)[0]
    assert torch.equal(grad, by_hand)
    assert not torch.equal(grad, expected)
    assert not apply(part, x).requires_grad


@dataclass(frozen=True)
class Faulty:
    fault: str
    random: ClassVar[bool] = False
    surrogate: ClassVar[None] = None

    @property
    def name(self) -> str:
        return f"faulty-{self.fault}"

    def __call__(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        return {
            "shape": lambda: x[..., :-1],
            "dtype": lambda: x.double(),
            "range": lambda: x * 1.01,
            "nan": lambda: x * torch.nan,
        }[self.fault]()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("shape", r"changes the shape of its input from \(4, 1, 8, 8\) to \(4, 1, 8, 7\)"),
        ("dtype", r"changes the dtype from torch\.float32 to torch\.float64"),
        ("range", r"leaves the range \[0, 1\]\. Got values from 0 to 1\.01"),
        ("nan", r"leaves the range \[0, 1\]\. Got values from nan to nan"),
    ],
)
def test_check_transform_refuses_by_name(fault: str, sentence: str) -> None:
    x = torch.linspace(0, 1, 256).reshape(4, 1, 8, 8)
    with pytest.raises(UsageError, match=f"the transform 'faulty-{fault}' {sentence}"):
        check_transform(Faulty(fault), x, (0.0, 1.0))


def test_check_transform_in_a_box_that_float32_cannot_hold() -> None:
    x = torch.tensor([[-9.0, 9.0]]).clamp(-0.1, 0.1)[:, None, None]
    check_transform(Median(2), x, (-0.1, 0.1))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Median(1), r"median's size must be 2 to 9\. Got 1"),
        (lambda: Median(10), r"median's size must be 2 to 9\. Got 10"),
        (lambda: JPEG(0), r"JPEG quality must be 1 to 100\. Got 0"),
        (lambda: JPEG(101), r"JPEG quality must be 1 to 100\. Got 101"),
        (lambda: RandomRotation(0), r"degrees must be in \(0, 45\]\. Got 0"),
        (lambda: RandomRotation(46), r"degrees must be in \(0, 45\]\. Got 46"),
        (lambda: RandomRotation(float("nan")), "degrees must be in"),
        (lambda: GaussianNoise(0), r"sigma must be > 0\. Got 0"),
        (lambda: GaussianNoise(float("nan")), r"sigma must be > 0\. Got nan"),
        (lambda: defense("blur3"), r"named median2, jpeg75, rotation5 or noise0\.05 .*Got 'blur3'"),
        (lambda: defense("median"), "Got 'median'"),
        (lambda: defense("jpeg-5"), "Got 'jpeg-5'"),
        (lambda: defense("median12"), r"median's size must be 2 to 9\. Got 12"),
        (lambda: defense("median2.5"), "whole number"),
        (lambda: defense("jpeg75.5"), "whole number"),
    ],
)
def test_impossible_defences_are_refused(make, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make()


@pytest.mark.parametrize("sigma", [0.05, 1e-5, 0.123456789])
def test_a_name_tells_the_whole_number(sigma: float) -> None:
    """A manifest holds the name alone: what it leads back to must be the same transform."""
    assert defense(GaussianNoise(sigma).name) == GaussianNoise(sigma)


@pytest.mark.parametrize("name", ["jpeg75", "noise0.05"])
def test_transforms_of_pixels_refuse_another_box(name: str) -> None:
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    with pytest.raises(UsageError, match=rf"'{name}' is for pixels in \[0, 1\]"):
        check_transform(defense(name), x, (0.0, 255.0))
