"""How much time the guard adds to one prediction."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from buckler.guard import Guard
from buckler.protocols import Classifier


@dataclass(frozen=True)
class Latency:
    """Added milliseconds of calls of so many rows, guard − model, paired and interleaved.

    p95_high is the bad end: the order statistic that lies over the true p95 with probability
    0.975.
    """

    p50: float
    p95: float
    p95_high: float
    calls: int
    rows: int
    threads: int


def added_latency(
    model: Classifier, guard: Guard, x: Tensor, *, rows: int = 1, calls: int = 300
) -> Latency:
    """Time `calls` calls of `rows` rows of x (n, ...) through the model and through the guard."""
    x = x.repeat(math.ceil(rows / len(x)), *[1] * (x.ndim - 1))
    added = []
    for call in range(-20, calls):  # the first twenty warm up
        at = call % (len(x) - rows + 1)
        part = x[at : at + rows]
        started = time.perf_counter()
        with torch.inference_mode():
            model(part)
        between = time.perf_counter()
        guard.judge(part)
        if call >= 0:
            added.append(1000 * ((time.perf_counter() - between) - (between - started)))
    ordered = np.sort(added)
    rank = math.ceil(0.95 * calls + 1.96 * math.sqrt(calls * 0.95 * 0.05))
    return Latency(
        p50=float(np.median(ordered)),
        p95=float(np.quantile(ordered, 0.95)),
        p95_high=float(ordered[min(rank, calls) - 1]),
        calls=calls,
        rows=rows,
        threads=torch.get_num_threads(),
    )


def latencies(model: Classifier, guard: Guard, x: Tensor) -> dict[str, Latency]:
    """Of the whole guard over `model` at one row and at 32, and at one row over the mean of its own
    members: what transforms, detectors and the rule cost."""
    return {
        "one": added_latency(model, guard, x),
        "batch": added_latency(model, guard, x, rows=32),
        "checks": added_latency(guard.classifier(), guard, x),
    }
