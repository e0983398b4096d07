"""A server that does, request by request, what a test tells it to."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Step = Callable[[socket.socket, Request], None]


@dataclass
class Log:
    url: str
    requests: list[Request] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [request.headers["x-request-id"] for request in self.requests]


def raw(status: int, body: bytes, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def says(status: int, value: object = None, **headers: str) -> Step:
    """This answer."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return lambda peer, _: peer.sendall(raw(status, b"" if status == 204 else body, **headers))


def refuses(status: int, sentence: str, **headers: str) -> Step:
    return says(status, {"error": sentence}, **headers)


def resets(peer: socket.socket, _: Request) -> None:
    """The connection ends without an answer, by RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def half(peer: socket.socket, _: Request) -> None:
    """The answer ends in its middle."""
    peer.sendall(raw(200, b"x" * 100)[:-50])


def trickles(peer: socket.socket, _: Request) -> None:
    """Byte by byte, each in time, the whole never."""
    peer.sendall(raw(200, b"x" * 100)[:-100])
    for _ in range(100):
        peer.sendall(b"x")
        time.sleep(0.1)


def silent(peer: socket.socket, _: Request) -> None:
    time.sleep(10)


def verdicts(peer: socket.socket, request: Request) -> None:
    """One row, accepted."""
    outputs = [
        {"name": "prediction", "shape": [1], "datatype": "BYTES", "data": ["cat"]},
        {"name": "label", "shape": [1], "datatype": "INT64", "data": [3]},
        {"name": "status", "shape": [1], "datatype": "BYTES", "data": ["ACCEPTED"]},
        {"name": "review_id", "shape": [1], "datatype": "BYTES", "data": [""]},
    ]
    parameters = {"bundle": "b", "request_id": request.headers["x-request-id"]}
    answer = {"model_name": "buckler", "parameters": parameters, "outputs": outputs}
    says(200, answer)(peer, request)


@contextmanager
def scripted(*steps: Step) -> Iterator[Log]:
    """A connection a step; after the last one nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        log = Log(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def play() -> None:
            for step in steps:
                try:
                    peer, _ = listener.accept()
                    with peer:
                        log.requests.append(_read(peer))
                        step(peer, log.requests[-1])
                except OSError:
                    continue  # the client, or the test, went away
            listener.close()

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        yield log
        listener.close()


def _read(peer: socket.socket) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        data += peer.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    headers = {name.lower(): value for name, _, value in pairs}
    while len(body) < int(headers.get("content-length", 0)):
        body += peer.recv(65536)
    method, path, _ = first.split(" ")
    return Request(method, path, headers, body)
