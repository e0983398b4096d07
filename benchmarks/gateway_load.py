"""An open-loop load generator: requests leave when they are due, whoever still waits.

A generator that waits for answers asks less of a slow server, and never sees the wait it caused.
Here each request has its time beforehand, and its latency counts from there, not from when it was
sent (no coordinated omission). HTTP/1.1 over kept connections, as many as it takes.

    python -m benchmarks.gateway_load http://127.0.0.1:8080/v1/classify body.json --rate 100
"""

import argparse
import asyncio
import contextlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_IDLE_S = 4.0  # the gateway ends a connection that was idle for 5


@dataclass(frozen=True)
class Answer:
    """What came back: the status and the headers, in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Sent:
    """One request, in seconds of the loop's clock.

    status 0: no answer; error says why: "connect" if the kernel took no connection.
    """

    due: float
    started: float
    ended: float
    status: int
    error: str = ""

    @property
    def latency(self) -> float:
        return self.ended - self.due


class Link:
    """One connection. `open` is false once the server said or showed that it ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.open = True
        self.last = asyncio.get_running_loop().time()

    @classmethod
    async def to(cls, host: str, port: int) -> "Link":
        return cls(*await asyncio.open_connection(host, port))

    async def ask(self, request: bytes) -> Answer:
        """Raises: ConnectionError if the connection ends before the answer does."""
        self.open = False
        self._writer.write(request)
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await self._reader.readexactly(int(headers["content-length"]))
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the connection ended without an answer") from error
        self.open = headers.get("connection", "").lower() != "close"
        self.last = asyncio.get_running_loop().time()
        return Answer(int(first.split()[1]), headers, body)

    def close(self) -> None:
        self._writer.close()


@dataclass
class Load:
    """Requests to one server, each over a connection that is free, or a new one."""

    host: str
    port: int
    idle: list[Link] = field(default_factory=list)

    async def send(self, request: bytes, due: float) -> Sent:
        now = asyncio.get_running_loop().time
        started = now()
        try:
            link = self._free(started) or await Link.to(self.host, self.port)
        except OSError:
            return Sent(due, started, now(), 0, "connect")
        try:
            answer = await link.ask(request)
        except OSError as error:
            link.close()
            return Sent(due, started, now(), 0, str(error) or type(error).__name__)
        if link.open:
            self.idle.append(link)
        else:
            link.close()
        return Sent(due, started, now(), answer.status)

    def _free(self, now: float) -> Link | None:
        while self.idle:
            link = self.idle.pop()
            if now - link.last < _IDLE_S:
                return link
            link.close()
        return None

    async def offer(self, request: bytes, rate: float, seconds: float) -> list[Sent]:
        """`rate` requests a second, evenly, for so long; then wait for the last answer."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        tasks = []
        for number in range(round(rate * seconds)):
            due = start + number / rate
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self.send(request, due)))
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for link in self.idle:
                link.close()
            self.idle.clear()


def post(path: str, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> bytes:
    """One request as it goes over the wire."""
    given = {"host": "load", "content-type": kind, "content-length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in {**given, **(headers or {})}.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode() + body


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that a share `q` of all does not pass; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def table(sent: Sequence[Sent]) -> list[dict[str, object]]:
    """One line a status: how many, and milliseconds from when they were due."""
    lines: list[dict[str, object]] = []
    for status, count in sorted(Counter(each.status for each in sent).items()):
        ms = [each.latency * 1000 for each in sent if each.status == status]
        figures = {f"p{q:g}_ms": round(quantile(ms, q / 100), 2) for q in (50, 90, 99, 100)}
        lines.append({"status": status, "n": count, **figures})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("--type", default="application/json")
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    url = urlsplit(given.url)
    request = post(url.path, given.body.read_bytes(), given.type)
    load = Load(url.hostname or "127.0.0.1", url.port or 80)
    sent = asyncio.run(load.offer(request, given.rate, given.seconds))
    for line in table(sent):
        print(json.dumps(line))
    late = [(each.started - each.due) * 1000 for each in sent]
    print(f"the generator itself was late by {quantile(late, 0.99):.1f} ms at p99")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
