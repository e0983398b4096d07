"""What a request brings: rows to judge, and what is kept of a row that a person must see."""

import io
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from torch import Tensor

from buckler.text.codes import decode

NPY: Final = "application/x-npy"
TEXT: Final = "text/plain"
_BEGINNINGS: Final = {
    b"\x89PNG": "image/png",
    b"\xff\xd8": "image/jpeg",
    b"RIFF": "image/webp",
    b"BM": "image/bmp",
}


@dataclass(frozen=True, eq=False)
class Inputs:
    """x (n, ...), checked; files: the caller's own image files, one a row, or none at all; text:
    the rows are texts."""

    x: Tensor
    files: tuple[bytes, ...] = field(default=(), repr=False)
    text: bool = False

    def __len__(self) -> int:
        return len(self.x)

    @property
    def file_bytes(self) -> int:
        return sum(map(len, self.files))

    def content(self, row: int) -> tuple[bytes, str]:
        """The row as it came, and its media type: the file, the text, or its numbers as .npy."""
        if self.text:
            return self.words(row).encode(), TEXT
        if self.files:
            return self.files[row], media_type(self.files[row])
        stream = io.BytesIO()
        np.save(stream, self.x[row].numpy(), allow_pickle=False)
        return stream.getvalue(), NPY

    def words(self, row: int) -> str:
        """The row's text."""
        return decode(self.x[row : row + 1])[0]


def media_type(file: bytes) -> str:
    """By its first bytes, of a file that was decoded; what a caller calls it does not count."""
    found = (kind for beginning, kind in _BEGINNINGS.items() if file.startswith(beginning))
    return next(found, "application/octet-stream")
