"""Servers as processes that end with the measurement, on a core of their own if there are two."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.gateway_servers import SETTINGS

_LITSERVE = {"litserve": "1", "litserve, batched": "32"}


@dataclass(frozen=True)
class Server:
    system: str
    url: str
    pid: int

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def resident_mib(self) -> float:
        """Of Linux: the memory in use."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


def server_core() -> int:
    """The last core."""
    return (os.cpu_count() or 1) - 1


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """This process, and those it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def server(system: str, case: str, model: str, settings: str = "{}") -> Iterator[Server]:
    """Ready to answer; its processes, and theirs, end with the block."""
    module, *given = ["benchmarks.gateway_servers", system, case, model]
    if system in _LITSERVE:
        module, *given = ["benchmarks.gateway_litserve", case, model, _LITSERVE[system]]
    with subprocess.Popen(
        [sys.executable, "-m", module, *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", SETTINGS: settings},
        preexec_fn=lambda: os.sched_setaffinity(0, {server_core()}),
    ) as process:
        try:
            assert process.stdout is not None
            lines = (line.split() for line in process.stdout)
            url = next((words[1] for words in lines if words[:1] == ["READY"]), None)
            if url is None:
                raise RuntimeError(f"{module} {' '.join(given)} did not start")
            yield Server(system, url, process.pid)
        finally:
            # The session is the server's own: its workers end with it.
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
