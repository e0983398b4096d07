"""Which image files the event loop decodes itself: none that could hold it for long."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from buckler.serve.quick import QUICK_FILE, QUICK_SIDE, is_quick


def file(width: int = 224, height: int = 224, form: str = "JPEG", **how: object) -> bytes:
    pixels = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.stack([pixels, 255 - pixels, pixels], 2)).save(stream, form, **how)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        file(),
        file(quality=95, subsampling=0),
        file(QUICK_SIDE, QUICK_SIDE),
        file(1, 1),
        file(optimize=True, dpi=(300, 300), comment="ours", restart_marker_rows=1),
        file(icc_profile=b"x" * 3000),
    ],
    ids=["plain", "fine", "largest", "smallest", "dressed", "profile"],
)
def test_a_small_photograph_is_quick(content: bytes) -> None:
    assert is_quick(content)
    assert is_quick(bytearray(content))


GREY = io.BytesIO()
Image.new("L", (28, 28)).save(GREY, "JPEG")


def test_so_is_a_grey_one() -> None:
    assert is_quick(GREY.getvalue())


def scan_by_scan() -> bytes:
    """Sequential, but said to come in one scan a colour."""
    content = bytearray(file())
    content[content.index(b"\xff\xda") + 4] = 1
    return bytes(content)


def many_pieces() -> bytes:
    content = file()
    return content[:2] + b"\xff\xe5\x00\x02" * 40 + content[2:]


@pytest.mark.parametrize(
    "content",
    [
        file(progressive=True),
        scan_by_scan(),
        many_pieces(),
        file(icc_profile=b"x" * 5000),
        file(QUICK_SIDE + 1, 8),
        file(8, QUICK_SIDE + 1),
        file() + b"\0" * QUICK_FILE,
        file(form="PNG"),
        file(form="WEBP"),
        b"\xff\xd8\xff" + file()[2:],
        b"\xff\xd8",
        b"",
    ],
    ids=[
        *("progressive", "scans", "pieces", "head", "wide", "tall", "long", "png", "webp"),
        *("filled", "cut", "empty"),
    ],
)
def test_what_may_take_long_is_not(content: bytes) -> None:
    assert not is_quick(content)


def test_two_frames_are_not() -> None:
    content = file(8, 8)
    at = content.index(b"\xff\xc0")
    size = 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    assert not is_quick(content[:at] + content[at : at + size] + content[at:])


@given(st.binary(max_size=200), st.integers(0, 600), st.integers(0, 600))
def test_whatever_is_called_quick_is_refused_or_small(noise: bytes, start: int, cut: int) -> None:
    """Pillow finds no more in a quick file than was found here."""
    content = file()
    broken = content[:start] + noise + content[start + cut :]
    if is_quick(broken):
        with Image.open(io.BytesIO(broken)) as image:
            assert image.format in ("JPEG", "MPO")
            assert max(image.size) <= QUICK_SIDE
            assert "progressive" not in image.info
