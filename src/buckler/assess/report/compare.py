"""Runs side by side: each figure with its interval, and row by row where the rows are the same."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from buckler.assess.report.runs import Run
from buckler.stats import sign_test, wilson

SCHEMA: Final = "buckler.compare/1"
Json = dict[str, Any]
_LEVEL = 0.05
FIGURES: Final = {
    "success": "accepted and wrong under attack / right at first",
    "clean_accuracy": "clean accuracy",
    "accepted_right": "accepted and right, clean",
    "review_rate": "clean inputs sent to review",
}


def compare(runs: Sequence[Run]) -> Json:
    """Every run's figures, and each pair's differences from the first.

    A success under another threat is another question: it stands in the table and is not compared.
    """
    return {
        "schema": SCHEMA,
        "runs": [
            {
                "name": run.name,
                "digest": run.digest,
                "threat": run.threat,
                "rates": {name: run.rates[name] for name in FIGURES if name in run.rates},
                "added_latency_p95_ms": run.p95,
                "struck": list(run.struck),
            }
            for run in runs
        ],
        "differences": [_difference(runs[0], run) for run in runs[1:]],
    }


def _difference(first: Run, other: Run) -> Json:
    names = {"first": first.name, "other": other.name}
    if first.threat != other.threat:
        said = (
            f"under other threats ({_words(first)}, {_words(other)}): their success is not compared"
        )
        return {**names, "paired": [], "note": said}
    a, b = first.ledger, other.ledger
    if a is None or b is None:
        return {**names, "paired": [], "note": "no rows were kept: compare the intervals"}
    if not (np.array_equal(a.row, b.row) and np.array_equal(a.y, b.y)):
        return {**names, "paired": [], "note": "on other rows: compare the intervals"}
    pairs = [
        ("accepted and right, clean", a.right & a.accepted_before, b.right & b.accepted_before),
        ("right and unbroken under attack", a.right & ~a.broken, b.right & ~b.broken),
    ]
    struck = [*first.struck, *other.struck]
    kept = pairs[:1] if struck else pairs
    note = "a figure under attack is struck out: it is not compared" if struck else ""
    return {**names, "paired": [_paired(*pair) for pair in kept], "note": note}


def _paired(name: str, first: np.ndarray, other: np.ndarray) -> Json:
    """McNemar's exact test, two-sided; the interval of the net gain takes Wilson's bad ends."""
    n = len(first)
    lost, won = int((first & ~other).sum()), int((other & ~first).sum())
    p = min(1.0, 2 * min(sign_test(lost, won), sign_test(won, lost)))
    low, high = wilson(lost, n), wilson(won, n)
    return {
        "name": name,
        "n": n,
        "lost": lost,
        "won": won,
        "gain": (won - lost) / n,
        "low": high.low - low.high,
        "high": high.high - low.low,
        "p": p,
        "verdict": "not told apart" if p >= _LEVEL else "better" if won > lost else "worse",
    }


def _words(run: Run) -> str:
    return " ".join(f"{value}" for key, value in run.threat.items() if key in ("norm", "eps"))
