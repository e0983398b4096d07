"""Thousands of broken bodies: each is read or refused in one sentence, and none takes memory."""

import json
import random
import tracemalloc

import numpy as np
import orjson
import pytest

from buckler import wire
from buckler.errors import DataError

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
WORDS = np.array(["cat", "toaster"], object)
DICTIONARY = [
    *(b"-1", b"0", b"18446744073709551616", b"1e400", b"NaN", b"null", b"true", b"[]", b"{}"),
    *(b'"FP16"', b'"BF16"', b'"BYTES"', b'"BOOL"', b'"INT64"', b'"data"', b'"shape"', b'"name"'),
    *(b'"binary_data_size"', b'"content_type"', b'"base64"', b'"parameters"', b'"outputs"'),
    *(b"[1099511627776, 1099511627776]", b"[" * 50, b"]" * 50, b"\xff\xff\xff\xff", b"\0" * 8),
    *(b"4294967295", b'"shared_memory_region"', b'"binary_data"', b'"classification"', b","),
]


def seeds() -> list[tuple[bytes, str | None]]:
    both = {"x": X, "words": WORDS, "half": X.astype(np.float16)}
    messages = [
        wire.infer_request({"x": X, "words": WORDS}, ["y"], "id"),
        wire.infer_request(both, ["y"], "id", binary=True, binary_output=True),
        wire.infer_response("m", both, "1", "id", parameters={"a": 1}, binary=("half", "words")),
        wire.infer_request({"image": np.array([b"\xff\xd8"], object)}),
    ]
    framed = [message.frame() for message in messages]
    return [(body, headers.get(wire.HEADER_LENGTH)) for body, headers in framed]


def broken(draw: random.Random, body: bytes, length: str | None) -> tuple[bytes, str | None]:
    """A body that some mistakes were made in."""
    found = bytearray(body)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(found) + 1)
        match draw.randrange(6):
            case 0:
                found[at:at] = draw.choice(DICTIONARY)
            case 1:
                found[at : at + draw.randint(1, 8)] = draw.choice(DICTIONARY)
            case 2:
                del found[at : at + draw.randint(1, 40)]
            case 3:
                found[at : at + 1] = bytes([draw.randrange(256)])
            case 4:
                del found[at:]
            case _:
                at = draw.choice([i for i, byte in enumerate(found) if 48 <= byte <= 57] or [0])
                found[at : at + 1] = str(draw.choice([-1, 0, 7, 2**31, 2**40, 2**63])).encode()
    if draw.random() < 0.3:
        length = draw.choice([None, "0", "1", "-1", "99999", str(len(found)), "x", "9" * 25])
    return bytes(found), length


def feed(count: int, seed: int) -> tuple[int, int]:
    """How many were read and refused; anything but a DataError passes through."""
    draw, known = random.Random(seed), seeds()
    read = 0
    refused = []
    for _ in range(count):
        body, length = broken(draw, *draw.choice(known))
        try:
            value, tail = wire.unframe(body, length, draw.choice([orjson.loads, json.loads]))
            if draw.random() < 0.5:
                wire.read_infer_request(value, tail)
            else:
                wire.read_infer_response(value, tail)
            read += 1
        except DataError as error:
            refused.append(str(error))
    assert all("\n" not in sentence and len(sentence) < 700 for sentence in refused)
    return read, len(refused)


def check(count: int) -> None:
    feed(200, seed=0)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        read, refused = feed(count, seed=1)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused > count / 2
    assert read > 0, "some mistakes are none: the mutations are not hopeless"
    assert peak - before < 2_000_000, "no body takes more than its own bytes fill"
    assert after - before < 200_000


def test_a_thousand_broken_bodies() -> None:
    check(1_000)


@pytest.mark.slow
def test_ten_thousand_broken_bodies() -> None:
    check(10_000)
