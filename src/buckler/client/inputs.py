"""Images as requests: arrays in binary, files as bytes, never more at once than is taken."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from buckler.errors import DataError

Images: TypeAlias = bytes | Path | Sequence[bytes | Path] | ArrayLike
"""One image file, several of them, or numbers (n, ...) in what the model takes."""
_HEAD = 1024  # bytes of a request's JSON, at most


def batches(images: Images, max_rows: int, max_bytes: int) -> Iterator[NDArray[np.generic]]:
    """Arrays that fit into one request each, in order: numbers (n, ...) or files (n,).

    A file is read when its turn comes. One row that alone is too large is sent: the gateway's
    refusal says by how much.

    Raises: DataError for what is neither files nor numbers, or a file that cannot be read.
    """
    room = max_bytes - _HEAD
    files: list[Any] = [images] if isinstance(images, bytes | Path) else []
    if isinstance(images, list | tuple) and _files(images):
        files = list(images)
    if files:
        yield from _packed(map(_read, files), max_rows, room)
        return
    rows = _numbers(images)
    size = rows.dtype.itemsize * math.prod(rows.shape[1:])
    step = max(1, min(max_rows, room // max(size, 1)))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _files(images: Sequence[object]) -> bool:
    kinds = {isinstance(each, bytes | Path) for each in images}
    if len(kinds) > 1:
        raise DataError("inputs must be image files (bytes or Path) or numbers. Got both")
    return kinds == {True}


def _read(file: bytes | Path) -> bytes:
    try:
        return file if isinstance(file, bytes) else file.read_bytes()
    except OSError as error:
        raise DataError(f"{file!s} cannot be read: {error.strerror or error}") from None


def _packed(files: Iterable[bytes], max_rows: int, room: int) -> Iterator[NDArray[np.object_]]:
    part: list[bytes] = []
    size = 0
    for content in files:
        if part and (len(part) == max_rows or size + len(content) + 4 > room):
            yield _objects(part)
            part, size = [], 0
        part.append(content)
        size += len(content) + 4
    if part:
        yield _objects(part)


def _objects(files: list[bytes]) -> NDArray[np.object_]:
    array = np.empty(len(files), dtype=object)
    array[:] = files
    return array


def _numbers(images: object) -> NDArray[np.generic]:
    """Doubles as float32: the gateway would make them so."""
    try:
        rows = np.asarray(images)
    except (TypeError, ValueError) as error:
        raise DataError(f"inputs must be image files or numbers (n, ...): {error}") from None
    if rows.dtype.kind not in "fiu" or rows.ndim == 0:
        raise DataError(
            "inputs must be image files (bytes or Path) or an array of numbers (n, ...). Got "
            f"{type(images).__name__} of {rows.dtype}"
        )
    return rows.astype(np.float32) if rows.dtype == np.float64 else rows
