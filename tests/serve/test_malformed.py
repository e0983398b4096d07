"""Malformed requests by the thousand: each gets a documented answer, and memory stays flat."""

import gzip
import random
import tracemalloc
import zlib
from collections import Counter

import pytest
import torch
from fastapi.testclient import TestClient

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


def check(count: int) -> None:
    draw, known, large = random.Random(2), seeds(), bombs()
    app = create_app(tiny_guard(), settings(max_body_bytes=LIMIT), log=False)
    statuses: Counter[int] = Counter()
    with TestClient(app) as client:

        def feed(number: int) -> None:
            for index in range(number):
                path, content, headers = (
                    draw.choice(large) if index % 40 == 39 else malformed(draw, known)
                )
                found = client.post(path, content=content, headers=headers)
                statuses[found.status_code] += 1
                if found.status_code != 200:
                    assert list(found.json()) == ["error"]

        feed(100)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            feed(count)
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert client.post(CLASSIFY, json=body(LEFT)).status_code == 200
    assert set(statuses) <= {200, 400, 413, 415}, statuses
    assert {200, 400, 413, 415} <= set(statuses), "all kinds of answers were seen"
    assert after - before < 1_000_000
    assert peak - before < 20 * LIMIT


def test_malformed_requests() -> None:
    check(200)


@pytest.mark.slow
def test_ten_thousand_malformed_requests() -> None:
    check(10_000)
