"""Retrains a quarter, by simulation: every week a timer asks `ops.owed.due`, as
`buckler retrain --if-due` does.

Each of 13 weeks brings false pages at the rate the alarms are set to (one a quarter), attack waves
(each pages, and gives 25 confirmed attacks), and 100 reviewed ACCEPTED rows of which 1 % are wrong.
A retrain clears all signs. What it cannot tell: how often real traffic drifts.
"""

from typing import Any, Final

import numpy as np

from benchmarks.results_file import Bar
from buckler.ops.owed import Limits, Signs, due
from buckler.ops.sampling import estimate

Row = dict[str, Any]
WEEKS: Final = 13
WAVES: Final = (0.0, 1.0, 3.0)  # attack waves a quarter, on average
MONTHLY: Final = 3.0  # what the article came down to, from every week


def retrains(runs: int = 1000) -> tuple[list[Row], list[Bar]]:
    """Retrains owed in each of so many quarters, by how many attack waves a quarter brings."""
    rows = [_row(waves, runs) for waves in WAVES]
    quiet = rows[1]
    name = "retrains a quarter, at one attack wave a quarter: mean (weekly would be 13)"
    return rows, [Bar(name, quiet["retrains"], runs, None, "<=", MONTHLY)]


def _row(waves: float, runs: int) -> Row:
    found = [
        _quarter(np.random.default_rng((seed, int(10 * waves))), waves) for seed in range(runs)
    ]
    low, high = np.quantile(found, (0.05, 0.95))
    return {"waves": waves, "runs": runs, "retrains": float(np.mean(found)), "5–95 %": [low, high]}


def _quarter(random: np.random.Generator, waves: float) -> int:
    count, wrong, decided, pages, confirmed = 0, 0, 0, 0, 0
    for _ in range(WEEKS):
        attacks = int(random.poisson(waves / WEEKS))
        pages += attacks + int(random.poisson(1 / WEEKS))
        confirmed += 25 * attacks
        wrong, decided = wrong + int(random.binomial(100, 0.01)), decided + 100
        reviewed = estimate(100_000, (wrong, decided), 0, (0, 0))
        if due(Signs(("a chart",) * pages, confirmed=confirmed, reviewed=reviewed), Limits()):
            count, wrong, decided, pages, confirmed = count + 1, 0, 0, 0, 0
    return count


def table(rows: list[Row]) -> str:
    lines = [
        "| attack waves a quarter | retrains owed, mean | 5–95 % of quarters |",
        "|---|---|---|",
    ]
    for row in rows:
        low, high = row["5–95 %"]
        lines.append(f"| {row['waves']:g} | {row['retrains']:.2f} | {low:g}–{high:g} |")
    return "\n".join(lines)
