"""What arrives, as rows the guard can judge: an image, a form of images, or JSON."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import torch
from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from torch import Tensor

from buckler.errors import DataError
from buckler.inputs import InputSpec
from buckler.serve.head import head_of
from buckler.serve.inflate import CODINGS, inflated, too_large
from buckler.serve.inputs import TEXT as PLAIN
from buckler.serve.inputs import Inputs
from buckler.serve.quick import is_quick
from buckler.serve.refusal import RefusedError, busy
from buckler.serve.rows import rows_from_json, texts_from_json
from buckler.serve.settings import Settings
from buckler.text.codes import from_utf8
from buckler.threats.features import FeatureSpec

# It has a line for every broken form, which anyone may send as many of as they like.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

T = TypeVar("T")
_PARSERS: Final = 2
QUICK: Final = 64 * 1024
"""Bytes of JSON that the event loop may parse itself: a thread costs more."""
QUICK_BINARY: Final = 1024 * 1024
"""Bytes of numbers in binary, of which the same is true: they are looked at once."""
_KINDS = "an image (image/*), a form of images (multipart/form-data) or rows (application/json)"


class Intake:
    """Reads bodies: so many bytes at once, none too large, none past its deadline."""

    def __init__(
        self, spec: InputSpec, settings: Settings, table: FeatureSpec | None = None
    ) -> None:
        self._spec, self._table = spec, table
        self._settings = settings
        self._reading = 0
        # Decoding is work for a processor: more at once would only take memory.
        self._parsers = asyncio.Semaphore(_PARSERS)

    async def rows(self, request: Request, until: float) -> Inputs:
        """The rows of a request, checked.

        Raises: DataError for what the guard cannot take; RefusedError 408, 413, 415, 429 or 504.
        """
        kind = _kind(head_of(request.scope), self._spec.text)
        async with self.content(request, until) as content:
            files: Sequence[bytes | bytearray] = [content]
            if kind == "multipart/form-data":
                files = await _files(request.headers, bytes(content), self._settings.max_rows)
            quick = len(content) <= QUICK if kind == "application/json" else is_quick(files[0])
            if quick and len(files) == 1:
                return self._parse(kind, files, until)
            return await self.in_thread(lambda: self._parse(kind, files, until), until)

    @asynccontextmanager
    async def content(self, request: Request, until: float) -> AsyncIterator[bytes | bytearray]:
        """The whole body, without its content coding; it has its place until it is parsed.

        Raises: RefusedError 408, 413, 415, 429 or 504.
        """
        head = head_of(request.scope)
        coding = _coding(head)
        limit = self._settings.max_body_bytes
        size = _expected(head, limit)
        # What is packed may become as large as is allowed.
        size = size if coding == "identity" else limit
        if self._reading + size > self._settings.max_reading_bytes:
            raise busy(f"{self._reading} bytes of bodies are being read", 1, "reading")
        self._reading += size
        try:
            content = await _in_time(request, limit, until)
            if coding != "identity":
                content = await self.in_thread(lambda: inflated(content, coding, limit), until)
            yield content
        finally:
            self._reading -= size

    async def in_thread(self, parse: Callable[[], T], until: float) -> T:
        """What `parse` gives; few at once. Raises: RefusedError 504 if that takes too long."""
        try:
            async with asyncio.timeout_at(until), self._parsers:
                return await asyncio.to_thread(parse)
        except TimeoutError:
            raise _too_slow() from None

    def _parse(self, kind: str, files: Sequence[bytes | bytearray], until: float) -> Inputs:
        if self._spec.text:
            if kind == PLAIN:
                return Inputs(self._spec.read([from_utf8(files[0])]), text=True)
            texts = texts_from_json(files[0], self._spec, self._settings.max_rows)
            return Inputs(texts, text=True)
        if kind == "application/json":
            return Inputs(self._json(files[0]))
        return images(files, self._spec, until, "file")

    def _json(self, content: bytes | bytearray) -> Tensor:
        return rows_from_json(content, self._spec, self._settings.max_rows, self._table)


def images(files: Sequence[bytes | bytearray], spec: InputSpec, until: float, what: str) -> Inputs:
    """The rows of image files, checked; what: the word for one of them.

    Raises: DataError for what is no image; RefusedError 504 past the loop's time `until`.
    """
    found = []
    for number, content in enumerate(files, 1):
        # A thread cannot be stopped from outside, and a small file may hold a large image.
        if time.monotonic() > until:
            raise _too_slow()
        try:
            found.append(spec.decode(bytes(content)))
        except DataError as error:
            if len(files) == 1:
                raise
            raise DataError(f"{what} {number} of {len(files)}: {error}") from None
    x = found[0] if len(found) == 1 else torch.cat(found)
    return Inputs(spec.check(x), tuple(map(bytes, files)))


async def _in_time(request: Request, limit: int, until: float) -> bytes | bytearray:
    try:
        async with asyncio.timeout_at(until):
            return await read_body(request, limit)
    except TimeoutError:
        raise RefusedError(408, "the body was not there in time: send it faster") from None


async def read_body(request: Request, limit: int) -> bytes | bytearray:
    """The whole body, not copied where it comes in one piece.

    Raises: RefusedError 413 once more than `limit` bytes must come; ClientDisconnect.
    """
    _expected(head_of(request.scope), limit)
    content, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        if len(content) + len(chunk) > limit:
            raise too_large(limit)
        if not (more or content):
            return bytes(chunk)
        content += chunk
    return content


def _expected(headers: Mapping[str, str], limit: int) -> int:
    """The most bytes that may come. Raises: RefusedError 413 if the caller says more than `limit`.

    More than was said never comes: the server reads the rest as the next request.
    """
    declared = headers.get("content-length", "")
    # No more digits than a limit can have: a long number takes long to read.
    if not (declared.isascii() and declared.isdecimal()):
        return limit
    if len(declared) > 18 or int(declared) > limit:
        raise too_large(limit)
    return int(declared)


def _kind(headers: Mapping[str, str], text: bool) -> str:
    """The body's media type. Raises: RefusedError 415 for one that no input has."""
    given = parse_options_header(headers.get("content-type"))[0].decode("latin-1").lower()
    if text:
        if given in (PLAIN, "application/json"):
            return given
        kinds = f"a text ({PLAIN}) or texts (application/json)"
        raise RefusedError(415, f"the Content-Type must be {kinds}. Got {given[:80]!r}")
    if given.startswith("image/") or given in ("multipart/form-data", "application/json"):
        return given
    raise RefusedError(415, f"the Content-Type must be {_KINDS}. Got {given[:80]!r}")


def _coding(headers: Mapping[str, str]) -> str:
    """The body's content coding. Raises: RefusedError 415 for one that is not taken."""
    given = headers.get("content-encoding", "identity").strip().lower()
    if given not in CODINGS:
        allowed = ", ".join(CODINGS)
        raise RefusedError(415, f"the Content-Encoding must be {allowed}. Got {given[:80]!r}")
    return given


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
