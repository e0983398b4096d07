"""Which image files the event loop decodes itself: those that cannot hold it for long.

To hand a photograph of 224 × 224 pixels to a thread and back costs as much as half its decoding.
But a small file may take long: a progressive JPEG passes over the picture once a scan, and 64 KiB
hold thousands of scans; a PNG unpacks its texts before its pixels; and a head of thousands of
pieces is read in Python. So only this is quick: one pass, few pieces before it, few pixels.
"""

from typing import Final

QUICK_FILE: Final = 64 * 1024
QUICK_SIDE: Final = 256
"""Pixels; each way, since a row of pixels is decoded as a row of blocks."""
_HEAD: Final = 4096  # bytes before the picture: tables, and no large metadata
_PIECES: Final = 32
_SEQUENTIAL: Final = (0xC0, 0xC1)
_SCAN: Final = 0xDA
_OTHERS: Final = frozenset((0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)))


def is_quick(file: bytes | bytearray) -> bool:
    """Whether it is a small JPEG whose one scan holds all its colours (ITU-T T.81, Annex B)."""
    if len(file) > QUICK_FILE or not file.startswith(b"\xff\xd8"):
        return False
    at, colours = 2, 0
    for _ in range(_PIECES):
        piece = file[at : at + 10]
        if at > _HEAD or len(piece) < 10 or piece[0] != 0xFF:
            return False
        kind = piece[1]
        if kind == _SCAN:
            return 0 < colours == piece[4]
        if kind in _SEQUENTIAL and not colours:
            height, width = int.from_bytes(piece[5:7], "big"), int.from_bytes(piece[7:9], "big")
            colours = piece[9]
            if not (0 < height <= QUICK_SIDE and 0 < width <= QUICK_SIDE):
                return False
        elif kind not in _OTHERS:
            return False
        at += 2 + int.from_bytes(piece[2:4], "big")
    return False
