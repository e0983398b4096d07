"""Certificates: draws saved, claims kept, published bounds again, patches.

python -m benchmarks.certify --data-dir ../shared/data [--only PART] [--quick]. Each part (coverage,
patch, smoothing, linear, recipe) writes its own result, benchmarks/results/certify-PART; nets and
finished rows are kept under out/certify.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import certify_coverage, certify_linear, certify_patch, certify_smoothing
from benchmarks.headline_data import load
from benchmarks.results_file import Bar, write_results
from buckler import data

PARTS = ("coverage", "patch", "smoothing", "linear", "recipe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument(
        "--rows", type=int, default=200, help="of a data set, for smoothing and patches"
    )
    parser.add_argument(
        "--bounded", type=int, default=10_000, help="of each published net; kept ones count"
    )
    parser.add_argument("--quick", action="store_true", help="few rows, into out/")
    options = parser.parse_args()
    torch.set_num_threads(1)  # small nets
    for part in PARTS if options.only is None else (options.only,):
        print(part, flush=True)
        few = 20 if options.quick else None
        counts = (few or options.rows, few or options.bounded)
        rows, bars = _part(part, options.data_dir, *counts, options.quick)
        command = f"python -m benchmarks.certify --data-dir ../shared/data --only {part}"
        path = write_results(f"certify-{part}", command, rows, bars, _table(rows), options.quick)
        print(f"wrote {path}")


def _part(
    part: str, folder: Path, count: int, bounded: int, quick: bool
) -> tuple[list[dict[str, Any]], list[Bar]]:
    if part == "coverage":
        rows = certify_coverage.rows(quick)
        return rows, certify_coverage.bars(rows)
    if part == "patch":
        rows = certify_patch.rows(folder, count, min(20, count // 5))
        return rows, certify_patch.bars(rows)
    mnist = load("mnist", folder)
    if part == "smoothing":
        rows = [
            row
            for source in (data.load("digits"), mnist)
            for sigma in certify_smoothing.RADII
            for row in certify_smoothing.compared(source, sigma, count)
        ]
        rows += certify_smoothing.speeds(mnist["test"].x[0], 3 if quick else 25)
        return rows, certify_smoothing.bars(rows)
    if part == "linear":
        rows = [certify_linear.sound(1000 if quick else 10_000)]
        found = [certify_linear.again(known, folder, bounded) for known in certify_linear.KNOWN]
        rows += [row for row in found if row is not None]
    else:
        rows = certify_linear.recipes(folder)
    return rows, certify_linear.bars(rows)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """One table for each kind of row."""
    lines: list[str] = []
    for kind in dict.fromkeys(row["part"] for row in rows):
        mine = [
            {k: v for k, v in row.items() if k != "part"} for row in rows if row["part"] == kind
        ]
        lines += ["", "| " + " | ".join(mine[0]) + " |", "|" + "---|" * len(mine[0])]
        lines += ["| " + " | ".join(_cell(value) for value in row.values()) + " |" for row in mine]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " to ".join(_cell(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
