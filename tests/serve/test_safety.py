"""What must not get in, and what must not get out: over real sockets where it matters."""

import contextlib
import io
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from buckler.guard import Guard
from buckler.ops.access import Key, Keys, digest_of, new_key, prefix_of
from buckler.serve import Background, create_app

from .tiny import CLASSIFY, LEFT, SPEC, Scripted, body, settings

CONTENT = orjson.dumps(body(LEFT))
PNG = {"content-type": "image/png"}


@pytest.fixture
def address(guard: Guard) -> Iterator[tuple[str, int]]:
    limits = settings(head_s=0.3, deadline_s=0.6, max_connections=8, max_body_bytes=100_000)
    with Background(guard, limits, log=False) as url:
        host, port = url.removeprefix("http://").split(":")
        yield host, int(port)


def until_closed(connection: socket.socket) -> tuple[bytes, float]:
    """All that comes, and the seconds it took until the other side ended it."""
    start, found = time.monotonic(), b""
    connection.settimeout(20)
    try:
        while chunk := connection.recv(65536):
            found += chunk
    except ConnectionResetError:
        pass
    return found, time.monotonic() - start


def head(length: object = len(CONTENT), **more: str) -> bytes:
    lines = [f"POST {CLASSIFY} HTTP/1.1", "host: x", "content-type: application/json"]
    lines += [f"content-length: {length}"] if length is not None else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def code(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_connection_that_says_nothing_is_closed(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as silent:
        answer, seconds = until_closed(silent)
    assert answer == b""
    assert 0.2 < seconds < 5


def test_a_head_that_trickles_is_closed_also_on_a_kept_connection(
    address: tuple[str, int],
) -> None:
    for asked_before in (False, True):
        with socket.create_connection(address) as slow:
            if asked_before:
                slow.sendall(head() + CONTENT)
                assert code(slow.recv(65536)) == 200
            start, given_up = time.monotonic(), False
            for byte in b"POST /v1/classify HTTP/1.1\r\nx-filler: " + b"x" * 1000:
                try:
                    slow.sendall(bytes([byte]))
                except (BrokenPipeError, ConnectionResetError):
                    given_up = True
                    break
                time.sleep(0.02)
            assert given_up
            assert time.monotonic() - start < 5


def test_a_body_that_trickles_is_told_so(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as slow:
        slow.sendall(head(connection="close") + CONTENT[:-1])
        answer, seconds = until_closed(slow)
    assert code(answer) == 408
    assert b"the body was not there in time" in answer
    assert seconds < 5


@pytest.mark.parametrize("endless", [b"x: " + b"y" * 5_000_000, b"x: y\r\n" * 1_000_000])
def test_trailers_without_end_are_cut_off(address: tuple[str, int], endless: bytes) -> None:
    with socket.create_connection(address) as long:
        long.sendall(head(None, transfer_encoding="chunked") + b"1\r\n[\r\n0\r\n")
        sent = 0
        try:
            while sent < len(endless):
                sent += long.send(endless[sent:])
                time.sleep(0.001)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < len(endless)


def test_no_more_connections_than_allowed(address: tuple[str, int]) -> None:
    kept = [socket.create_connection(address) for _ in range(8)]
    for one in kept[:2]:
        one.sendall(head() + CONTENT)
        assert code(one.recv(65536)) == 200
    with socket.create_connection(address) as more:
        assert until_closed(more)[0] == b""
    for one in kept:
        one.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(len(CONTENT) - 1, connection="close") + CONTENT, 400),  # too short: cut, no JSON
        (head(100_001, connection="close") + CONTENT, 413),
        (head("9" * 18, connection="close") + CONTENT, 413),
        (head("9" * 5000) + CONTENT, 400),
        (head("-1") + CONTENT, 400),
        (head("1e3") + CONTENT, 400),
        (head(None, content_length="5", content_Length="6") + CONTENT, 400),
        (head(None, transfer_encoding="chunked") + b"zz\r\n", 400),
        (
            head(None, transfer_encoding="chunked", connection="close")
            + b"fffffffff\r\n"
            + b"x" * 200_000,
            413,
        ),
        (
            head(None, transfer_encoding="chunked", connection="close")
            + f"{len(CONTENT):x}\r\n".encode()
            + CONTENT
            + b"\r\n0\r\n\r\n",
            200,
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 200_000 + b"\r\n", 400),
        (b"GET /" + b"y" * 1_000_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    ],
)
def test_lengths_that_lie(address: tuple[str, int], sent: bytes, status: int) -> None:
    with socket.create_connection(address) as one:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            one.sendall(sent)
        answer, seconds = until_closed(one)
    assert code(answer) == status
    assert b"Traceback" not in answer
    assert seconds < 5


def png_bomb(width: int, height: int) -> bytes:
    """A file of a few kB that says it is width x height."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = zlib.compress(b"\0" * 1_000_000, 9)
    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def saved(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, kind)
    return stream.getvalue()


def test_images_that_would_fill_the_memory_are_refused_before_they_do(client: TestClient) -> None:
    for width, height in ((5000, 5000), (50_000, 50_000), (2**31 - 1, 2**31 - 1), (16_000_001, 1)):
        start = time.perf_counter()
        found = client.post(CLASSIFY, content=png_bomb(width, height), headers=PNG)
        assert found.status_code == 400, found.text
        assert "pixels" in found.json()["error"] or "decoded" in found.json()["error"]
        assert time.perf_counter() - start < 2


def test_a_text_chunk_that_inflates_is_refused(client: TestClient) -> None:
    real = saved("PNG")
    packed = b"k\0\0" + zlib.compress(b"x" * 80_000_000, 9)
    chunk = struct.pack(">I", len(packed)) + b"zTXt" + packed
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    found = client.post(CLASSIFY, content=real[:33] + chunk + real[33:], headers=PNG)
    assert found.status_code == 400
    assert "cannot be decoded" in found.json()["error"]


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "ICO", "TGA", "PCX", "EPS"])
def test_formats_outside_the_list_are_refused_whatever_they_say(
    client: TestClient, kind: str
) -> None:
    found = client.post(CLASSIFY, content=saved(kind), headers=PNG)
    assert found.status_code == 400
    assert found.json()["error"].startswith("the body must be an image (PNG, JPEG, WEBP, BMP)")


def test_every_answer_carries_its_headers(guard: Guard) -> None:
    expected = {
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
    }
    for https in (False, True):
        app = create_app(guard, settings(https=https), log=False)
        with TestClient(app) as client:
            for found in (
                client.get("/v2/health/live"),
                client.get("/nowhere"),
                client.get(CLASSIFY),
                client.post(CLASSIFY, json=body(LEFT)),
                client.post(CLASSIFY, content=b"x"),
                client.get("/metrics"),
            ):
                assert {name: found.headers.get(name) for name in expected} == expected
                assert ("strict-transport-security" in found.headers) == https
                assert "server" not in found.headers


def test_no_secret_and_no_stack_trace_gets_out(tmp_path: Path) -> None:
    """A whole run in a process of its own; then all it wrote is searched."""
    made, bad, secret = new_key(), new_key(), "a-secret-of-the-draws"
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[key]]\nid="shop"\ndigest="{digest_of(made)}"\nroles=["infer"]\n')
    code = f"""
import httpx, sys
from buckler.serve import Background
from buckler.serve.settings import Settings
from tests.serve.tiny import *
def judge(x):
    if float(x.max()) == 0: raise RuntimeError("weights at /srv/hidden")
    return accept(x)
seen = []
with Background(Scripted(judge), Settings.read(port=0)) as url:
    made, bad = {made!r}, {bad!r}
    for headers in ({{"authorization": "Bearer " + made}}, {{"x-api-key": made}},
                    {{"x-api-key": bad}}, {{"authorization": "Basic dXNlcjpodW50ZXIy"}},
                    {{"cookie": "session=hunter2"}},
                    {{"x-api-key": made, "authorization": "Bearer " + bad}}):
        for sent in (body(LEFT), body(BLANK), {{"rows": made}}):
            seen.append(httpx.post(url + CLASSIFY + "?key=" + made, json=sent, headers=headers))
        seen.append(httpx.get(url + "/metrics", headers=headers))
        seen.append(httpx.get(url + "/" + made, headers=headers))
print(sorted({{s.status_code for s in seen}}))
sys.stdout.write("".join(s.text + str(s.headers) for s in seen))
"""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ":".join(sys.path),
        "BUCKLER_KEYS_FILE": str(keys),
        "BUCKLER_SECRET": secret,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[200, 400, 401, 403, 404, 500]\n")
    log, answers = done.stderr, done.stdout
    assert "weights at /srv/hidden" in log, "the log says what went wrong"
    assert len(re.findall('"event": "request"', log)) == 30
    for hidden in (made, bad, made[12:], bad[12:], secret, "dXNlcjpodW50ZXIy", "hunter2"):
        assert hidden not in log
        assert hidden not in answers
    for inside in ("hidden", "Traceback", "site-packages", str(tmp_path)):
        assert inside not in answers


def test_a_row_of_another_shape_or_kind_never_reaches_the_judge() -> None:
    def never(x: object) -> list[object]:
        raise AssertionError("it was judged")

    app = create_app(Scripted(never), settings(), log=False)  # type: ignore[arg-type]
    bad: list[object] = [[0.0] * 63, [2.0] * 64, [-0.1] * 64, ["0"] * 64, [None] * 64, [True] * 64]
    with TestClient(app) as client:
        for row in (*bad, [1e39] * 64, [[0.0] * 8] * 9):
            assert client.post(CLASSIFY, json={"rows": [row]}).status_code == 400
        for text in (b'{"rows": [[NaN]]}', b'{"rows": [[Infinity]]}', b'{"rows": [[1e999]]}'):
            sent = client.post(CLASSIFY, content=text, headers={"content-type": "application/json"})
            assert sent.status_code == 400
        wrong = SPEC.encode(LEFT[0])
        assert client.post(CLASSIFY, content=wrong[:-20], headers=PNG).status_code == 400


def test_a_prefix_may_be_shown_and_no_more() -> None:
    made = new_key()
    key = Key("a", prefix_of(made), digest_of(made), frozenset({"infer"}), 1.0, 1.0, None)
    assert made not in repr(key)
    assert made not in repr(Keys([key]))
