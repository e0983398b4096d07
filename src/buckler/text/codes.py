"""Texts as rows of numbers: code points, then -1 to the end of the row.

So a text travels where images and tables do: batches, queues, verdicts, attacks. float32 holds
every code point exactly.
"""

import sys
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from buckler.errors import DataError

END: Final = -1.0
BOX: Final = (END, float(sys.maxunicode))


def encode(texts: Sequence[str], length: int) -> Tensor:
    """(n, length) float32 of texts, each checked.

    Raises: DataError naming the first thing wrong.
    """
    rows = np.full((len(texts), length), END, np.float32)
    for number, text in enumerate(texts):
        if why := wrong(text, length):
            raise DataError(why if len(texts) == 1 else f"text {number + 1} of {len(texts)}: {why}")
        points = np.frombuffer(text.encode("utf-32-le"), "<u4")
        rows[number, : len(points)] = points
    return torch.from_numpy(rows)


def decode(x: Tensor) -> list[str]:
    """The texts of rows x (n, length) that `check` lets pass."""
    rows = x.detach().cpu().numpy()
    return [
        row[row >= 0].astype("<u4").tobytes().decode("utf-32-le", "surrogatepass") for row in rows
    ]


def wrong(text: str, length: int) -> str:
    """What keeps a text from being judged, in one sentence; "" if nothing does."""
    if not text:
        return "a text must hold at least one character. Got an empty one"
    if len(text) > length:
        return f"a text may have at most {length} characters. Got {len(text)}: send it in parts"
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return (
                "a text must be Unicode without lone surrogates. "
                f"Got U+{ord(text[error.start]):04X} at character {error.start + 1}"
            )
    return ""


def from_utf8(content: bytes | bytearray) -> str:
    """Raises: DataError for bytes that are not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"a text must be UTF-8. Got the byte 0x{content[error.start]:02X} at {error.start + 1} "
            f"of {len(content)} bytes"
        ) from None


def check(x: Tensor) -> None:
    """Raises: DataError unless each row of x (n, length) is code points, then -1 to its end."""
    points = x.detach()
    ended = points < 0
    lone = (points >= 0xD800) & (points <= 0xDFFF)
    faults = (
        ("whole numbers, code points or -1", (points != points.round()).any(1)),
        ("a text of at least one character", ended[:, 0]),
        ("code points, then -1 to the end", (ended[:, :-1] & ~ended[:, 1:]).any(1)),
        ("Unicode without lone surrogates", lone.any(1)),
    )
    for what, rows in faults:
        if bool(rows.any()):
            raise DataError(f"a row of text must be {what}. Row {int(rows.nonzero()[0, 0])} is not")
