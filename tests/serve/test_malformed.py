"""Malformed requests by the thousand: each gets a documented answer, and memory stays flat."""

import asyncio
import functools
import gzip
import random
import tracemalloc
import zlib
from collections import Counter
from collections.abc import MutableMapping
from typing import Any

import orjson
import pytest
import torch
from fastapi import FastAPI

from buckler import wire
from buckler.serve import create_app
from tests.wire.test_fuzz import broken

from .test_refusals import size
from .tiny import BLANK, CLASSIFY, LEFT, SPEC, body, settings, tiny_guard

INFER = "/v2/models/buckler/infer"
LIMIT = 200_000
KINDS = ["application/json", "image/png", "multipart/form-data; boundary=x", "text/plain", ""]
CODINGS = ["identity", "gzip", "deflate", "br", "gzip, gzip"]
Headers = dict[str, str]


def seeds() -> list[tuple[str, bytes, Headers]]:
    x = torch.cat([LEFT, BLANK]).numpy()
    messages = [
        wire.infer_request({"input": x}, ["status"], "id", binary=True, binary_output=True),
        wire.infer_request({"input": x}),
    ]
    found = [(INFER, *message.frame()) for message in messages]
    found.append((CLASSIFY, SPEC.encode(LEFT[0]), {"content-type": "image/png"}))
    rows = str(body(LEFT)).replace("'", '"').encode()
    found.append((CLASSIFY, rows, {"content-type": "application/json"}))
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    whole = form + SPEC.encode(LEFT[0]) + b"\r\n--x--\r\n"
    found.append((CLASSIFY, whole, {"content-type": KINDS[2]}))
    return found


@functools.cache
def bombs() -> list[tuple[str, bytes, Headers]]:
    zeros = bytes(50_000_000)
    packed, deflated = gzip.compress(zeros, 9), zlib.compress(zeros, 9)
    image = size(20_000, 5_000)
    return [
        (INFER, packed, {"content-encoding": "gzip"}),
        (INFER, deflated, {"content-encoding": "deflate"}),
        (CLASSIFY, packed, {"content-encoding": "gzip", "content-type": "application/json"}),
        (CLASSIFY, image, {"content-type": "image/png"}),
        (INFER, b"[" * 150_000, {}),
        (INFER, bytes(LIMIT + 1), {}),
    ]


def malformed(
    draw: random.Random, known: list[tuple[str, bytes, Headers]]
) -> tuple[str, bytes, Headers]:
    path, content, headers = draw.choice(known)
    headers = dict(headers)
    content, length = broken(draw, content, headers.pop(wire.HEADER_LENGTH, None))
    if length is not None:
        headers[wire.HEADER_LENGTH] = length
    if draw.random() < 0.2:
        headers["content-type"] = draw.choice(KINDS)
    if draw.random() < 0.2:
        headers["content-encoding"] = draw.choice(CODINGS)
        if draw.random() < 0.7:
            content = draw.choice([gzip.compress, zlib.compress])(content)
    return path, content, headers


async def send(app: FastAPI, path: str, content: bytes, headers: Headers) -> tuple[int, bytes]:
    """The answer to one raw request."""
    found: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def answer(message: MutableMapping[str, Any]) -> None:
        found.append(dict(message))

    pairs = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": pairs}
    await app(scope, receive, answer)
    return found[0]["status"], found[1]["body"]


async def feed(app: FastAPI, draw: random.Random, count: int) -> Counter[int]:
    """How often each status was the answer to so many requests."""
    known, large = seeds(), bombs()
    statuses: Counter[int] = Counter()
    for index in range(count):
        one = draw.choice(large) if index % 40 == 39 else malformed(draw, known)
        status, content = await send(app, *one)
        statuses[status] += 1
        if status != 200:
            assert list(orjson.loads(content)) == ["error"]
    return statuses


async def check(count: int) -> None:
    draw = random.Random(2)
    app = create_app(tiny_guard(), settings(max_body_bytes=LIMIT), log=False)
    async with app.router.lifespan_context(app):
        await feed(app, draw, 100)
        tracemalloc.start()
        try:
            first = await feed(app, draw, count // 2)
            middle = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            second = await feed(app, draw, count // 2)
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        good = {"content-type": "application/json"}
        assert (await send(app, CLASSIFY, orjson.dumps(body(LEFT)), good))[0] == 200
    assert set(first + second) == {200, 400, 413, 415}, "all kinds of answers, no other"
    assert after - middle < 100_000, "what was sent is forgotten"
    assert peak - middle < 20 * LIMIT


def test_malformed_requests() -> None:
    asyncio.run(check(400))


@pytest.mark.slow
def test_ten_thousand_malformed_requests() -> None:
    asyncio.run(check(10_000))
