"""Smoothing: draws that a sequential test takes against a fixed number, and time a draw.

The reference is CERTIFY of Cohen et al. (2019) with n = 100,000: its draws are kept in order, so
that what any smaller n would have said is known from the same run. The rows of the reference share
their noise, which each row's guarantee allows.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import beta, norm
from torch import Tensor, nn

from benchmarks.certify_nets import flat, noisy, small, trained
from benchmarks.results_file import Bar
from buckler import draws, files
from buckler.certify import certify_at
from buckler.certify.smoothing import counts, quick
from buckler.data import Dataset
from buckler.protocols import Classifier

N, N0, ALPHA = 100_000, 100, 0.001
RADII = {0.25: (0.25, 0.5, 0.75), 0.5: (0.25, 0.5, 1.0, 1.5)}
LADDER = (
    *(50, 75, 100, 150, 200, 300, 400, 500, 700, 1000, 1500, 2000, 3000, 4000, 5000, 6000, 7000),
    *(8000, 10_000, 15_000, 20_000, 30_000, 50_000, 70_000, N),
)
NEAR = 0.005
OUT = Path("out/certify/smoothing")
_CHUNK = 500
_DRAWS = 4000  # a round of a speed


@dataclass(frozen=True)
class Fixed:
    """hits (rows, ladder): draws among the first n that agree with the guess."""

    guess: Tensor
    hits: Tensor

    def right(self, y: Tensor, sigma: float, radius: float) -> Tensor:
        """(ladder,) share of the rows certified, and right, at this radius with each n."""
        n, k = np.array(LADDER), self.hits.numpy()
        low = np.where(k > 0, beta.ppf(ALPHA, np.maximum(k, 1), n - k + 1), 0.0)
        held = torch.from_numpy(low >= norm.cdf(radius / sigma))
        return (held & (self.guess == y)[:, None]).double().mean(0)


def fixed(net: nn.Sequential, x: Tensor, sigma: float, seed: int = 0) -> Fixed:
    """The reference on each row. The net's first Linear sees the noise once for all rows."""
    first, rest = net[1], net[2:]
    assert isinstance(first, nn.Linear)
    shown = first(x.flatten(1))
    guess = torch.stack(
        [counts(net, row, sigma, range(N0), seed, i, "guess", None) for i, row in enumerate(x)]
    ).argmax(1)
    total = torch.zeros(len(x), dtype=torch.int64)
    found: list[Tensor] = []
    key, began = draws.derive(seed, "reference"), time.monotonic()
    for start in range(0, N, _CHUNK):
        noise = draws.normal(key, torch.arange(start, start + _CHUNK), 0, tuple(x[0].shape))
        moved = sigma * noise.flatten(1) @ first.weight.T
        hits = [
            rest(one + moved).argmax(1) == label for one, label in zip(shown, guess, strict=True)
        ]
        agreed = total[:, None] + torch.stack(hits).cumsum(1)
        found += [agreed[:, n - start - 1] for n in LADDER if start < n <= start + _CHUNK]
        total = agreed[:, -1]
        if time.monotonic() - began > 30:
            began = time.monotonic()
            print(f"  reference: {start / N:.0%}", flush=True)
    return Fixed(guess, torch.stack(found, 1))


def compared(data: Dataset, sigma: float, rows: int) -> list[dict[str, Any]]:
    """One row a radius: the smallest n that is near n = 100,000, and the draws we take."""
    path = OUT / f"{data.name}-{sigma:g}-{rows}.json"
    if path.exists():
        kept: Any = files.read_json(path)
        return list(kept["rows"])
    net, _ = trained(noisy(sigma, data), data)
    assert isinstance(net, nn.Sequential)
    x, y, _ = data["test"].sample(rows, 0)
    with torch.inference_mode():
        reference = fixed(net, x, sigma)
    found = []
    for radius in RADII[sigma]:
        shares = reference.right(y, sigma, radius)
        near = int((shares >= shares[-1] - NEAR - 1e-9).double().argmax())
        ours = certify_at(net, x, sigma=sigma, radii=[radius], n=N, n0=N0, alpha=ALPHA)
        right = [c.label == int(truth) for c, truth in zip(ours, y, strict=True)]
        mean = sum(c.n for c in ours) / len(ours)
        found.append(
            {
                "part": "smoothing",
                "data": data.name,
                "sigma": sigma,
                "radius": radius,
                "ceiling": sigma * float(norm.ppf(ALPHA ** (1 / N))),
                "rows": len(x),
                "at 100,000": float(shares[-1]),
                "smallest n": LADDER[near],
                "at smallest n": float(shares[near]),
                "ours": sum(right) / len(right),
                "our draws": mean,
                "fewer": LADDER[near] / mean,
                "fewer than 100,000": N / mean,
            }
        )
        print(f"  {found[-1]}", flush=True)
    files.write_json(path, {"rows": found})
    return found


def speeds(x: Tensor, rounds: int) -> list[dict[str, Any]]:
    """CPU seconds a draw of ours and of the reference's own loop, side by side, on two nets: the
    least of the rounds of each, for what else runs on the machine only ever adds."""
    nets = {"two convolutions": small(), "one hidden layer": flat(784)}
    found = []
    for name, net in nets.items():
        net.eval().requires_grad_(False)
        laid_out = quick(net, x[None], 0.25, N)  # once for all rows of a run
        ours = partial(counts, laid_out, x, 0.25, range(_DRAWS), 0, 0, "bound", None)
        theirs = partial(_their_counts, net, x, 0.25, _DRAWS, 1000)
        times = [(_seconds(ours), _seconds(theirs)) for _ in range(rounds)]
        one, other = (min(each) for each in zip(*times, strict=True))
        facts = {"draws a second": _DRAWS / one, "faster": other / one}
        found.append({"part": "speed", "net": name, **facts, "rounds": rounds})
        print(f"  {found[-1]}", flush=True)
    return found


def _seconds(run: Callable[[], object]) -> float:
    """Of this process's own: what else the machine does is not counted."""
    began = time.process_time()
    run()
    return time.process_time() - began


def _their_counts(
    model: Classifier, x: Tensor, sigma: float, n: int, batch: int
) -> np.ndarray[Any, Any]:
    """The published reference's algorithm: batches of 1,000 copies (its default), torch's own
    normals, the answers counted one by one."""
    found = np.zeros(10, dtype=int)
    with torch.no_grad():
        left = n
        while left > 0:
            size = min(batch, left)
            left -= size
            copies = x.repeat((size, 1, 1, 1))
            answers = model(copies + torch.randn_like(copies) * sigma).argmax(1)
            for label in answers.numpy():
                found[label] += 1
    return found


def bars(rows: list[dict[str, Any]]) -> list[Bar]:
    cells = [row for row in rows if row["part"] == "smoothing"]
    speed = [row for row in rows if row["part"] == "speed"]
    n = sum(row["rows"] for row in cells)
    fewer = sum(row["fewer"] for row in cells) / len(cells)
    far = min(row["fewer than 100,000"] for row in cells if row["radius"] == 1.5)
    lost = round(100 * max(row["at 100,000"] - row["ours"] for row in cells), 6)
    faster = min(row["faster"] for row in speed)
    return [
        Bar("fewer draws than the smallest n, mean of cells", fewer, n, None, ">=", 3),
        Bar("points lost against n = 100,000, most of cells", lost, n, None, "<=", 0.5),
        Bar("fewer draws than 100,000, sigma 0.5, radius 1.5, least", far, n, None, ">=", 10),
        Bar("draws a second against the reference's, least", faster, _DRAWS, None, ">=", 1.2),
    ]
