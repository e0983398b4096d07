"""What arrives, as rows the guard can judge: an image, a form of images, or JSON."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import torch
from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from torch import Tensor

from buckler.errors import DataError
from buckler.inputs import InputSpec
from buckler.serve.refusal import RefusedError, busy
from buckler.serve.rows import rows_from_json
from buckler.serve.settings import Settings

_PARSERS: Final = 2
_KINDS = "an image (image/*), a form of images (multipart/form-data) or rows (application/json)"


class Intake:
    """Reads bodies: so many bytes at once, none too large, none past its deadline."""

    def __init__(self, spec: InputSpec, settings: Settings) -> None:
        self._spec = spec
        self._settings = settings
        self._reading = 0
        # Decoding is work for a processor: more at once would only take memory.
        self._parsers = asyncio.Semaphore(_PARSERS)

    async def rows(self, request: Request, until: float) -> Tensor:
        """x (n, *shape), checked.

        Raises: DataError for what the guard cannot take; RefusedError 408, 413, 415, 429 or 504.
        """
        kind = _kind(request.headers)
        size = _expected(request.headers, self._settings.max_body_bytes)
        if self._reading + size > self._settings.max_reading_bytes:
            raise busy(f"{self._reading} bytes of bodies are being read", 1, "reading")
        self._reading += size
        try:
            content = await _in_time(request, self._settings.max_body_bytes, until)
            files = [content]
            if kind == "multipart/form-data":
                files = await _files(request.headers, content, self._settings.max_rows)
            async with asyncio.timeout_at(until), self._parsers:
                return await asyncio.to_thread(self._parse, kind, files, until)
        except TimeoutError:
            raise _too_slow() from None
        finally:
            self._reading -= size

    def _parse(self, kind: str, files: Sequence[bytes], until: float) -> Tensor:
        if kind == "application/json":
            return rows_from_json(files[0], self._spec, self._settings.max_rows)
        images = []
        for number, content in enumerate(files, 1):
            # A thread cannot be stopped from outside, and a small file may hold a large image.
            if time.monotonic() > until:
                raise _too_slow()
            try:
                images.append(self._spec.decode(content))
            except DataError as error:
                if len(files) == 1:
                    raise
                raise DataError(f"file {number} of {len(files)}: {error}") from None
        return self._spec.check(torch.cat(images))


async def _in_time(request: Request, limit: int, until: float) -> bytes:
    try:
        async with asyncio.timeout_at(until):
            return await read_body(request, limit)
    except TimeoutError:
        raise RefusedError(408, "the body was not there in time: send it faster") from None


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises: RefusedError 413 once more than `limit` bytes must come."""
    _expected(request.headers, limit)
    content = bytearray()
    async for chunk in request.stream():
        if len(content) + len(chunk) > limit:
            raise _too_large(limit)
        content += chunk
    return bytes(content)


def _expected(headers: Headers, limit: int) -> int:
    """The most bytes that may come. Raises: RefusedError 413 if the caller says more than `limit`.

    More than was said never comes: the server reads the rest as the next request.
    """
    declared = headers.get("content-length", "")
    # No more digits than a limit can have: a long number takes long to read.
    if not (declared.isascii() and declared.isdecimal()):
        return limit
    if len(declared) > 18 or int(declared) > limit:
        raise _too_large(limit)
    return int(declared)


def _kind(headers: Headers) -> str:
    """The body's media type. Raises: RefusedError 415 for one that no input has."""
    if headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, "send the body as it is, without Content-Encoding")
    given = parse_options_header(headers.get("content-type"))[0].decode("latin-1").lower()
    if given.startswith("image/") or given in ("multipart/form-data", "application/json"):
        return given
    raise RefusedError(415, f"the Content-Type must be {_KINDS}. Got {given[:80]!r}")


async def _files(headers: Headers, content: bytes, max_rows: int) -> list[bytes]:
    """The files of a form, in memory."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield content

    parser = MultiPartParser(headers, stream(), max_files=max_rows, max_fields=max_rows)
    # No input is ever written to a disk that nobody guards.
    parser.spool_max_size = len(content) + 1
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise DataError(f"the form cannot be read: {error.message.rstrip('.')}") from None
    files = []
    for name, part in form.multi_items():
        if isinstance(part, str):
            raise DataError(f"a form may hold files only. Got the field {name[:80]!r}")
        files.append(await part.read())
    await form.close()
    if not files:
        raise DataError("the form must hold at least one image file. Got none")
    return files


def _too_slow() -> RefusedError:
    return RefusedError(504, "the body could not be parsed in time: send fewer rows at once")


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, f"the body may have at most {limit} bytes: send fewer rows at once")
