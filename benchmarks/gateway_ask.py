"""Asking: wrk where callers wait for their answers, our open loop where they do not."""

import asyncio
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway_cases import cases
from benchmarks.gateway_load import Load, post, quantile
from benchmarks.gateway_processes import pinned, server

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Figures:
    """n answers, all of them good; milliseconds from sent to answered."""

    n: int
    per_s: float
    p50_ms: float
    p99_ms: float


def idle_ms(work: Callable[[], object], times: int = 200) -> float:
    """The median milliseconds of `work`."""
    seconds = []
    for _ in range(times + 10):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[10:])


def wrk(url: str, body: bytes, headers: Mapping[str, str], callers: int, seconds: int) -> Figures:
    """`callers` who each ask again as soon as they are answered.

    Raises: RuntimeError without wrk (Debian's package), or if one answer is no 2xx.
    """
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        content, script = Path(folder) / "body", Path(folder) / "ask.lua"
        content.write_bytes(body)
        lines = [
            f'local file = io.open("{content}", "rb")',
            'wrk.method, wrk.body = "POST", file:read("*a")',
            "file:close()",
            *(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()),
        ]
        script.write_text("\n".join(lines))
        said = subprocess.run(
            [
                *("wrk", "-t1", f"-c{callers}", f"-d{seconds}s", "--timeout", "20s"),
                *("--latency", "-s", str(script), url),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 60,
        ).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{url} did not answer well:\n{said}")
    found = dict(re.findall(r"^ +(50|99)% +(\S+)$", said, re.M))
    n, rate = re.search(r"(\d+) requests in", said), re.search(r"Requests/sec: +(\S+)", said)
    assert n is not None
    assert rate is not None
    return Figures(int(n[1]), float(rate[1]), _ms(found["50"]), _ms(found["99"]))


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


BATCH_S, BATCH_ROWS, DEADLINE_S = 0.1, 4, 2.0


def overload(seconds: float) -> dict[str, Any]:
    """Ten times what a gateway can judge, whose batches take 0.1 s; memory once it was warm."""
    capacity = BATCH_ROWS / BATCH_S
    settings = {
        "batch_rows": BATCH_ROWS,
        "max_rows": BATCH_ROWS,
        "queue_rows": 256,
        "deadline_s": DEADLINE_S,
    }
    case = cases()["features"]
    request = post(case.path, case.body, case.headers["content-type"])
    with (
        pinned(0),
        server("buckler", "features", str(1000 * BATCH_S), json.dumps(settings)) as running,
    ):
        asyncio.run(Load(running.host, running.port).offer(request, 10 * capacity, 2.0))
        before = running.resident_mib
        time.sleep(DEADLINE_S)
        load = Load(running.host, running.port)
        sent = asyncio.run(load.offer(request, 10 * capacity, seconds))
        grown = running.resident_mib - before
    took = {
        status: [1000 * (each.ended - each.started) for each in sent if each.status == status]
        for status in (200, 429)
    }
    good = [ms for ms in took[200] if ms <= 1000 * DEADLINE_S]
    late = len(took[200]) - len(good) + sum(each.status == 504 for each in sent)
    return {
        "what": "overload",
        "system": "buckler",
        "seconds": seconds,
        "offered_per_s": 10 * capacity,
        "capacity_per_s": capacity,
        "deadline_s": DEADLINE_S,
        "n": len(sent),
        "accepted": len(good),
        "late": late,
        "refused": len(took[429]),
        "other": len(sent) - len(good) - late - len(took[429]),
        "accepted_p99_ms": quantile(took[200], 0.99),
        "refused_p50_ms": quantile(took[429], 0.5),
        "refused_p99_ms": quantile(took[429], 0.99),
        "generator_late_p99_ms": quantile([1000 * (e.started - e.due) for e in sent], 0.99),
        "grown_mib": grown,
    }
