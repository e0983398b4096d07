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
    """Added milliseconds of single-row calls, guard − model, paired and interleaved.

    p95_high is the bad end: the order statistic that lies over the true p95 with probability
    0.975.
    """

    p50: float
    p95: float
    p95_high: float
    calls: int
    threads: int


def added_latency(model: Classifier, guard: Guard, x: Tensor, calls: int = 300) -> Latency:
    """Time `calls` rows of x (n, ...), one at a time, through the model and through the guard."""
    added = []
    for call in range(-20, calls):  # the first twenty warm up
        row = x[call % len(x)][None]
        started = time.perf_counter()
        with torch.inference_mode():
            model(row)
        between = time.perf_counter()
        guard.judge(row)
        if call >= 0:
            added.append(1000 * ((time.perf_counter() - between) - (between - started)))
    ordered = np.sort(added)
    rank = math.ceil(0.95 * calls + 1.96 * math.sqrt(calls * 0.95 * 0.05))
    return Latency(
        p50=float(np.median(ordered)),
        p95=float(np.quantile(ordered, 0.95)),
        p95_high=float(ordered[min(rank, calls) - 1]),
        calls=calls,
        threads=torch.get_num_threads(),
    )
