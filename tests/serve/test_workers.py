"""Several processes on one socket: one may die, all drain together, a crash loop ends."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.gateway_load import Link, Load, post
from buckler.errors import BucklerError, UsageError
from buckler.serve.workers import supervise

from .bundles import untrained
from .process import CONTENT, gateway
from .test_drain import load
from .tiny import CLASSIFY, wait_for

pytestmark = pytest.mark.slow

REQUEST = post(CLASSIFY, CONTENT, "application/json")


def children(process: subprocess.Popen[str]) -> set[int]:
    """The workers: spawned children, less multiprocessing's own tracker."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in listed}
    return {pid for pid, line in lines.items() if b"spawn_main" in line}


async def answers(host: str, port: int) -> int:
    link = await Link.to(host, port)
    status = (await link.ask(REQUEST)).status
    link.close()
    return status


def test_a_dead_worker_is_replaced_and_all_drain_together(tmp_path: Path) -> None:
    untrained(tmp_path / "bundle")
    given = {"bundle": str(tmp_path / "bundle"), "settings": {"workers": 2}}
    with gateway(tmp_path / "log", **given) as (process, host, port):
        first = children(process)
        assert len(first) == 2
        victim = first.pop()
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(children(process) - {victim}) == 2)
        assert asyncio.run(answers(host, port)) == 200
        time.sleep(8)  # the new one loads the bundle: it drains, too
        found = asyncio.run(load(process, host, port))
        assert process.wait(30) == 0
        assert set(found) == {"200", "closing", "after"}, found


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    untrained(tmp_path / "bundle")
    given = {"bundle": str(tmp_path / "bundle"), "settings": {"workers": 2}}
    with gateway(tmp_path / "log", **given) as (process, _, _):
        workers = children(process)
        process.kill()
        process.wait(30)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def dies(how: str, ready: Callable[[str], None], wanted: Callable[[], bool]) -> None:
    if how == "at the start":
        raise UsageError("this cannot work")
    ready("")
    os._exit(7)


def test_a_worker_that_cannot_start_ends_it() -> None:
    with pytest.raises(BucklerError, match="a worker did not start: this cannot work"):
        supervise((dies, ("at the start",)), 1, lambda: None, [])


def test_a_crash_loop_ends_it() -> None:
    with pytest.raises(BucklerError, match=r"died 6 times, each within 60 s .* exit code 7"):
        supervise((dies, ("later",)), 2, lambda: None, [])


def test_all_share_the_load(tmp_path: Path) -> None:
    untrained(tmp_path / "bundle")
    given = {"bundle": str(tmp_path / "bundle"), "settings": {"workers": 2}}
    with gateway(tmp_path / "log", **given) as (_, host, port):
        sent = asyncio.run(Load(host, port).offer(REQUEST, rate=50, seconds=2))
    assert {each.status for each in sent} == {200}
