"""inputs: what may come in, the grid, and files that mean harm."""

import io
import json
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from buckler import draws
from buckler.errors import DataError, UsageError
from buckler.inputs import InputSpec, straight_through

GREY = InputSpec((1, 9, 12), ("a", "b"), levels=256)
COLOUR = InputSpec((3, 9, 12), ("a", "b"), levels=256)
ROW = InputSpec((4,), ("a", "b"), box=(-2.0, 3.0))
BOXES = [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-0.1, 0.3), (-2.1179, 2.64)]


def uniform(n: int, spec: InputSpec, seed: int = 0) -> torch.Tensor:
    low, high = spec.box
    u = draws.uniform(seed, torch.arange(n), 0, spec.shape)
    return (low + (high - low) * u).clamp(low, high)


def image_file(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def noise_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"shape": ()}, r"shape must be whole numbers >= 1\. Got \(\)"),
        ({"shape": (1, 0, 8)}, r"shape must be whole numbers >= 1\. Got \(1, 0, 8\)"),
        ({"class_names": ("a",)}, "class_names must be 2 or more different names"),
        ({"class_names": ("a", "b", "a")}, "class_names must be 2 or more different names"),
        ({"box": (1.0, 1.0)}, r"box must be \(low, high\) with low < high\. Got \(1\.0, 1\.0\)"),
        ({"box": (float("nan"), 1.0)}, "box must be"),
        ({"levels": 1}, r"levels must be 0 \(any float\) or 2 to 65536\. Got 1"),
        ({"levels": -1}, r"2 to 65536\. Got -1"),
    ],
)
def test_an_impossible_spec_is_refused(fields: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        InputSpec(**{"shape": (1, 8, 8), "class_names": ("a", "b"), **fields})


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (torch.zeros(2, 5), r"must have the shape \(n, 4\)\. Got \(2, 5\)"),
        (torch.zeros(4), r"must have the shape \(n, 4\)\. Got \(4,\)"),
        (torch.zeros(2, 4, dtype=torch.uint8), r"floating point numbers .*Got torch\.uint8"),
        (
            torch.tensor([[0.0] * 4, [0, torch.nan, 0, 0], [0, 0, torch.inf, 0]]),
            "Got NaN or infinity in 2 of 3 rows, first in row 1",
        ),
        (torch.full((1, 4), 3.5), r"must lie in \[-2, 3\]\. Got values from 3\.5 to 3\.5$"),
        (torch.full((1, 4), -2.01), r"must lie in \[-2, 3\]\. Got values from -2\.01"),
    ],
)
def test_check_names_the_first_thing_wrong(x: torch.Tensor, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        ROW.check(x)


def test_check_asks_about_255() -> None:
    with pytest.raises(DataError, match=r"to 255: divide by 255\?"):
        GREY.check(torch.full((1, 1, 9, 12), 255.0))


def test_check_returns_what_came() -> None:
    for spec in (GREY, COLOUR, ROW):
        x = uniform(3, spec)
        assert spec.check(x) is x
        assert len(spec.check(x[:0])) == 0


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_at_the_walls_are_inside(box: tuple[float, float], dtype: torch.dtype) -> None:
    """0.1 in float32 is more than 0.1 in Python: the box is compared in the input's own dtype."""
    x = torch.tensor([[-1e9, 1e9]], dtype=dtype).clamp(*box)
    assert InputSpec((2,), ("a", "b"), box).check(x) is x


@pytest.mark.parametrize(
    ("y", "count", "sentence"),
    [
        (torch.tensor([0, 1]), 3, r"one a row, \(3,\)\. Got the shape \(2,\)"),
        (torch.tensor([[0], [1]]), 2, r"Got the shape \(2, 1\)"),
        (torch.tensor([0, 2]), 2, r"labels must be 0 to 1 for the 2 classes\. Got 0 to 2"),
        (torch.tensor([-1, 1]), 2, r"Got -1 to 1"),
    ],
)
def test_labels_are_checked(y: torch.Tensor, count: int, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        ROW.check_labels(y, count)
    assert len(ROW.check_labels(y[:0].flatten(), 0)) == 0


@pytest.mark.parametrize("levels", [2, 16, 256])
@pytest.mark.parametrize("box", BOXES)
def test_snap_is_the_nearest_level(box: tuple[float, float], levels: int) -> None:
    spec = InputSpec((30,), ("a", "b"), box, levels)
    x = uniform(40, spec)
    grid = torch.linspace(*box, levels, dtype=torch.float64)
    nearest = (x[..., None].double() - grid).abs().amin(-1)
    snapped = spec.snap(x)
    width = box[1] - box[0]
    torch.testing.assert_close(
        (snapped - x).abs().double(), nearest, rtol=0, atol=1e-6 * max(width, abs(box[1]))
    )
    assert torch.equal(spec.snap(snapped), snapped)
    assert bool(spec.on_grid(snapped).all())
    assert len(snapped.unique()) <= levels
    spec.check(snapped)


def test_snap_passes_gradients_unchanged() -> None:
    x = uniform(2, GREY).requires_grad_(True)
    weights = uniform(2, GREY, seed=1)
    snapped = GREY.snap(x)
    assert torch.equal(snapped.detach(), GREY.snap(x.detach()))
    grad = torch.autograd.grad((snapped * weights).sum(), x)[0]
    assert torch.equal(grad, weights)


def test_without_levels_nothing_is_snapped() -> None:
    x = uniform(2, ROW)
    assert ROW.snap(x) is x
    assert bool(ROW.on_grid(x).all())


def test_on_grid_judges_each_row() -> None:
    x = GREY.snap(uniform(3, GREY))
    x[1, 0, 2, 3] = (x[1, 0, 2, 3] + 0.3 / 255) % 1
    assert GREY.on_grid(x).tolist() == [True, False, True]


def test_straight_through_is_hard_forward_and_soft_backward() -> None:
    soft = torch.tensor([1.0, 2.0], requires_grad=True)
    hard = torch.tensor([10.0, 20.0])
    out = straight_through(2 * soft, hard)
    assert torch.equal(out.detach(), hard)
    assert out.data_ptr() != hard.data_ptr()
    assert torch.autograd.grad(out.sum(), soft)[0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize("spec", [GREY, COLOUR])
def test_png_round_trip_is_exact(spec: InputSpec) -> None:
    x = spec.snap(uniform(3, spec))
    for row in x:
        back = spec.decode(spec.encode(row))
        assert back.shape == (1, *spec.shape)
        assert torch.equal(spec.snap(back), row[None])
        assert torch.equal(spec.decode(spec.encode(back[0])), back)


def test_every_level_survives_the_round_trip() -> None:
    spec = InputSpec((1, 16, 16), ("a", "b"), levels=256)
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    x = spec.decode(image_file(pixels))
    assert torch.equal((x[0, 0] * 255).round().byte(), torch.from_numpy(pixels))
    assert torch.equal(spec.decode(spec.encode(x[0])), x)
    assert torch.equal(spec.snap(x), x), "what a file holds is on the grid, bit for bit"
    assert bool(spec.on_grid(x).all())


def test_channel_order_and_orientation() -> None:
    pixels = np.zeros((9, 12, 3), np.uint8)
    pixels[0, 11] = (255, 0, 128)
    x = COLOUR.decode(image_file(pixels))
    assert x[0, :, 0, 11].tolist() == pytest.approx([1.0, 0.0, 128 / 255])
    assert float(x.sum()) == pytest.approx(1 + 128 / 255)


def test_another_box() -> None:
    spec = InputSpec((1, 9, 12), ("a", "b"), box=(-1.0, 1.0), levels=256)
    pixels = noise_pixels(9, 12)
    x = spec.decode(image_file(pixels))
    expected = torch.from_numpy(pixels).float() / 255 * 2 - 1
    torch.testing.assert_close(x[0, 0], expected)
    assert torch.equal(spec.decode(spec.encode(x[0])), x)
    spec.check(x)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_the_four_formats(kind: str) -> None:
    assert COLOUR.decode(image_file(noise_pixels(9, 12, 3), kind)).shape == (1, 3, 9, 12)


def test_modes_are_converted() -> None:
    grey_in_colour = COLOUR.decode(image_file(noise_pixels(9, 12)))
    assert torch.equal(grey_in_colour[:, 0], grey_in_colour[:, 2])
    assert GREY.decode(image_file(noise_pixels(9, 12, 3))).shape == (1, 1, 9, 12)
    opaque = noise_pixels(9, 12, 4)
    opaque[..., 3] = 255
    assert torch.equal(
        COLOUR.decode(image_file(opaque)), COLOUR.decode(image_file(opaque[..., :3]))
    )


def test_transparency_is_refused() -> None:
    """A person sees it over a background, the classifier without."""
    with pytest.raises(DataError, match="images must be opaque: flatten the transparency first"):
        COLOUR.decode(image_file(noise_pixels(9, 12, 4)))


def turned_photograph(kind: str) -> bytes:
    """12 x 9 pixels on disk, with the note that a viewer turns it by a quarter: 9 x 12 seen."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return image_file(noise_pixels(9, 12, 3), kind, exif=exif)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_photograph_is_judged_as_people_see_it(kind: str) -> None:
    with pytest.raises(DataError, match=r"must be 12 x 9 pixels\. Got 9 x 12"):
        COLOUR.decode(turned_photograph(kind))
    seen = InputSpec((3, 12, 9), ("a", "b")).decode(turned_photograph(kind))
    if kind == "PNG":
        expected = torch.from_numpy(np.rot90(noise_pixels(9, 12, 3), -1).copy())
        assert torch.equal((seen[0] * 255).round().byte(), expected.permute(2, 0, 1))


def test_sixteen_bits_are_not_clipped_to_white() -> None:
    """Pillow's convert("L") makes each 16-bit value above 255 white: judged, it would be a lie."""
    with pytest.raises(DataError, match="8 bits"):
        GREY.decode(image_file(np.full((9, 12), 30_000, np.uint16)))


def test_area_resize() -> None:
    spec = InputSpec((1, 2, 2), ("a", "b"), resize="area")
    pixels = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((3, 3), np.uint8))
    x = spec.decode(image_file(pixels)) * 255
    assert x.round().flatten().tolist() == [0, 80, 160, 240]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"must be an image \(PNG, JPEG, WEBP, BMP\)"),
        (b"not an image", "must be an image"),
        (image_file(noise_pixels(9, 12), "GIF"), "must be an image"),
        (image_file(noise_pixels(9, 12), "TIFF"), "must be an image"),
        (image_file(noise_pixels(12, 9)), r"must be 12 x 9 pixels\. Got 9 x 12"),
        (image_file(noise_pixels(9, 12, 3), "PNG")[:-40], "cannot be decoded: "),
        (image_file(noise_pixels(9, 12, 3), "JPEG")[:-200], "cannot be decoded: |must be an image"),
    ],
)
def test_decode_refuses(content: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        GREY.decode(content)


def test_decode_refuses_rows_of_features() -> None:
    with pytest.raises(DataError, match=r"takes rows of shape \(4,\), not images: send JSON"):
        ROW.decode(image_file(noise_pixels(9, 12)))


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in parts)


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ((4001, 4000), r"at most 16000000 pixels\. Got 4001 x 4000"),
        ((40_000, 40_000), "cannot be decoded: Image size"),
    ],
)
def test_decompression_bombs_are_refused_undecoded(size: tuple[int, int], sentence: str) -> None:
    spec = InputSpec((3, 9, 12), ("a", "b"), resize="area")
    with pytest.raises(DataError, match=sentence):
        spec.decode(bomb(*size))


@pytest.mark.parametrize(
    "whole",
    [
        *[image_file(noise_pixels(9, 12, 3), kind) for kind in ("PNG", "JPEG", "WEBP", "BMP")],
        *[turned_photograph(kind) for kind in ("PNG", "JPEG", "WEBP")],
        image_file(noise_pixels(9, 12, 4)),
    ],
    ids=["PNG", "JPEG", "WEBP", "BMP", "PNG-exif", "JPEG-exif", "WEBP-exif", "PNG-alpha"],
)
def test_damaged_files_give_an_answer_or_one_sentence(whole: bytes) -> None:
    """150 files with up to five bytes changed or the end cut off: nothing but DataError comes."""
    both = InputSpec((3, 9, 12), ("a", "b"), resize="area")
    dice = random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(150):
            content = bytearray(whole)
            for _ in range(dice.choice([1, 2, 5])):
                content[dice.randrange(len(content))] = dice.randrange(256)
            if turn % 5 == 0:
                content = content[: dice.randrange(len(content))]
            try:
                x = both.decode(bytes(content))
            except DataError:
                continue
            assert COLOUR.check(x).shape == (1, 3, 9, 12)


@pytest.mark.parametrize(
    "spec", [GREY, COLOUR, ROW, InputSpec((1, 2, 2), ("a", "b"), resize="area")]
)
def test_a_spec_survives_json(spec: InputSpec) -> None:
    assert InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_another_decoder_is_refused() -> None:
    with pytest.raises(DataError, match=r"the decoder must be 'pillow'\. Got 'opencv'"):
        InputSpec.from_dict({**GREY.to_dict(), "decoder": "opencv"})


def test_what_is_an_image() -> None:
    assert GREY.is_image
    assert COLOUR.is_image
    assert not ROW.is_image
    assert not InputSpec((2, 8, 8), ("a", "b")).is_image
    assert COLOUR.classes == 2


@pytest.mark.parametrize("box", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_of_a_file_is_one_float_bit_for_bit(box, channels):
    """Pixels belong to the digest of a bundle: k / 255, then the box, each in float32."""
    spec = InputSpec((channels, 16, 16), ("a", "b"), box=box)
    level = np.arange(256, dtype=np.uint8).reshape(16, 16)
    stream = io.BytesIO()
    Image.fromarray(level).convert("L" if channels == 1 else "RGB").save(stream, "PNG")
    low, high = box
    want = level.astype(np.float32) / 255 * (high - low) + low
    found = spec.decode(stream.getvalue())
    assert found.dtype == torch.float32
    assert all(np.array_equal(found[0, c].numpy(), want) for c in range(channels))
