"""Compressed bodies: unpacked only as far as a body may be large."""

import zlib
from typing import Final

from buckler.errors import DataError
from buckler.serve.refusal import RefusedError

CODINGS: Final = ("identity", "gzip", "deflate")
_WINDOW = {"gzip": 31, "deflate": 15}  # zlib's words for the two forms


def inflated(content: bytes | bytearray, coding: str, limit: int) -> bytes:
    """What `content` holds, gzip or deflate.

    Raises: RefusedError 413 as soon as it holds more than `limit` bytes; DataError if it is of
        another form, cut off, or followed by something else.
    """
    stream = zlib.decompressobj(_WINDOW[coding])
    try:
        found = stream.decompress(content, limit + 1)
    except zlib.error:
        raise DataError(f"the body must be {coding}, as its Content-Encoding says") from None
    if len(found) > limit:
        raise too_large(limit)
    if not stream.eof:
        raise DataError(f"the {coding} of the body ends before it is whole")
    if stream.unused_data:
        raise DataError(f"the body must end with its {coding}. Got bytes behind it")
    return found


def too_large(limit: int) -> RefusedError:
    return RefusedError(413, f"the body may have at most {limit} bytes: send fewer rows at once")
