"""SIGTERM under load: whoever the kernel let in is answered, and nobody with a 5xx."""

import asyncio
import itertools
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.gateway_load import Answer, Link, post

from .process import CONTENT, gateway
from .tiny import CLASSIFY

REQUEST = post(CLASSIFY, CONTENT, "application/json")
CLIENTS = 24
Request = Callable[[], bytes]
Heard = Callable[[Answer], None]


async def client(
    number: int,
    host: str,
    port: int,
    found: Counter[str],
    request: Request = lambda: REQUEST,
    heard: Heard = lambda _: None,
) -> None:
    """Ask until no more connection is to be had: over a kept one, or each time over a new one."""
    link: Link | None = None
    for turn in itertools.count():
        if link is None or not link.open or (number % 3 == 0 and turn % 2):
            if link is not None:
                link.close()
            try:
                link = await Link.to(host, port)
            except OSError:
                return
        if number % 4 == 0:
            await asyncio.sleep(0.01 * (turn % 3))
        try:
            answer = await link.ask(request())
        except OSError as error:
            found[f"lost: {error}"] += 1
            return
        found[str(answer.status)] += 1
        found["closing"] += not link.open
        heard(answer)


async def load(
    process: subprocess.Popen[str],
    host: str,
    port: int,
    request: Request = lambda: REQUEST,
    heard: Heard = lambda _: None,
) -> Counter[str]:
    found: Counter[str] = Counter()
    tasks = [
        asyncio.create_task(client(n, host, port, found, request, heard)) for n in range(CLIENTS)
    ]
    await asyncio.sleep(1.0)
    before = found["200"]
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks)
    found["after"] = found["200"] - before
    return found


@pytest.mark.parametrize("delay", [0.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_nobody_is_lost(tmp_path: Path, delay: float) -> None:
    given = {"batch_s": 0.005, "settings": {"drain_delay_s": delay}}
    with gateway(tmp_path / "log", **given) as (process, host, port):
        found = asyncio.run(load(process, host, port))
        assert process.wait(30) == 0
    assert set(found) == {"200", "closing", "after"}, found
    assert found["200"] > 100
    assert found["closing"] >= CLIENTS * 0.5, "kept connections are told that they end"
    assert "Traceback" not in (tmp_path / "log").read_text()
