"""How often a sequential certificate claims what is not so, at known probabilities."""

from typing import Any

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from benchmarks.results_file import Bar
from buckler.certify.sequential import climb
from buckler.stats import wilson

SIGMA, N, GIVE_UP = 0.5, 20_000, 0.05
RADII = (0.25, 0.5, 1.0, 1.5)
ALPHAS = (0.05, 0.01)


def coverage(alpha: float, true: float, runs: int, seed: int) -> dict[str, Any]:
    """Runs at a row whose probability stands at the border of `true`, the worst there is, at all
    radii together: how many certify `true` or more. The answers are a coin of that probability."""
    rng = np.random.default_rng(seed)
    p = float(norm.cdf(true / SIGMA))
    radii = [*RADII, 1.1 * true]
    bars = [float(norm.cdf(radius / SIGMA)) for radius in sorted(radii)]
    wrong = used = 0
    for _ in range(runs):

        def drawn(copies: range) -> Tensor:
            hits = int(rng.binomial(len(copies), p))
            return torch.tensor([hits, len(copies) - hits])

        reached, took = climb(drawn, 0, bars, N, alpha, GIVE_UP)
        wrong += reached > 0 and sorted(radii)[reached - 1] >= true
        used += took
    rate = wilson(wrong, runs)
    facts = {"alpha": alpha, "true radius": true, "runs": runs, "wrong": wrong, "rate": rate.value}
    found = {"part": "coverage", **facts, "interval": [rate.low, rate.high], "draws": used / runs}
    print(f"  {found}", flush=True)
    return found


def rows(quick: bool) -> list[dict[str, Any]]:
    runs = 200 if quick else 2000
    return [
        coverage(alpha, true, runs, seed)
        for seed, (alpha, true) in enumerate((a, r) for a in ALPHAS for r in RADII)
    ]


def bars(found: list[dict[str, Any]]) -> list[Bar]:
    return [
        Bar(
            f"certified what is not so, alpha {alpha:g}, largest of true radii",
            max(row["rate"] for row in found if row["alpha"] == alpha),
            sum(row["runs"] for row in found if row["alpha"] == alpha),
            None,
            "<=",
            alpha,
        )
        for alpha in ALPHAS
    ]
