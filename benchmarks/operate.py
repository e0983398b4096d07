"""Operating it, measured: alarms, rollouts, runs of near-equal inputs, retrains. Simulations with
fixed seeds through the code that serves, and attacks on a live gateway.

python -m benchmarks.operate [--data-dir DIR] [--only PART ...] [--quick]

Each part takes long (alarms and rollouts minutes, streams hours): with --only the others' figures
stay as the file has them. What was measured is kept under out/operate: started again, it goes on.
Streams need --data-dir with MNIST, Fashion-MNIST and CIFAR-10.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks import operate_monitor, operate_retrains, operate_rollout, operate_streams
from benchmarks.operate_kept import Keep, anew, kept
from benchmarks.results_file import RESULTS, Bar, write_results

Json = dict[str, Any]
Part = Callable[[], tuple[list[Json], list[Bar]]]
NAME: Final = "operate"
TITLES: Final = {
    "monitor": "Events to the first alarm, median",
    "rollout": "Rollouts that were rolled back within 10,000 requests",
    "streams": "Black-box attacks on a live gateway, and ordinary streams",
    "retrains": "Retrains",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--only", nargs="+", choices=tuple(TITLES), default=tuple(TITLES))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    quick = given.quick
    rows, bars = measured(Path("out/benchmarks") if quick else RESULTS, given.only)
    for name in given.only:
        if name == "streams" and given.data_dir is None:
            print("skipped streams: they need --data-dir")
            continue
        more, asked = parts(given.data_dir, quick)[name]()
        rows += [{"part": name, **row} for row in more]
        bars += asked
        # What took hours is on the disk before the next part begins.
        path = write_results(NAME, command(given.data_dir, quick), rows, bars, table(rows), quick)
        print(f"wrote {path} with {name}", flush=True)


def parts(data_dir: Path, quick: bool) -> dict[str, Part]:
    keep: Keep = anew if quick else kept
    return {
        "monitor": partial(operate_monitor.monitor, quick, keep),
        "rollout": partial(rollout, quick, keep),
        "streams": partial(streams, data_dir, quick, keep),
        "retrains": partial(operate_retrains.retrains, 200 if quick else 1000),
    }


def rollout(quick: bool, keep: Keep) -> tuple[list[Json], list[Bar]]:
    rows = []
    for name in operate_rollout.CASES:
        runs = 20 if quick else 400 if name in operate_rollout.WANTED else 100
        rows += keep(f"rollout {name} {runs}", partial(operate_rollout.figures, [name], runs))
    found = []
    for each in operate_rollout.bars(rows):
        bar = {name: value for name, value in each.items() if name != "met"}
        found.append(Bar(**{**bar, "name": f"rollout: {bar['name']}: rolled back"}))
    return rows, found


def streams(data_dir: Path, quick: bool, keep: Keep) -> tuple[list[Json], list[Bar]]:
    found = operate_streams.figures(data_dir, quick, keep)
    return found.rows, found.bars


def measured(folder: Path, anew: Sequence[str]) -> tuple[list[Json], list[Bar]]:
    """Rows and bars of the other parts, as they were measured before."""
    path = folder / f"{NAME}.json"
    if not path.exists():
        return [], []
    found = json.loads(path.read_text())
    rows = [row for row in found["rows"] if row["part"] not in anew]
    bars = [Bar(**{k: v for k, v in bar.items() if k != "met"}) for bar in found["bars"]]
    return rows, [bar for bar in bars if not bar.name.startswith(tuple(anew))]


def command(data_dir: Path | None, quick: bool) -> str:
    streamed = "" if data_dir is None else " --data-dir DIR"
    return "python -m benchmarks.operate" + streamed + (" --quick" if quick else "")


def table(rows: Sequence[Json]) -> str:
    """One table a part that was measured; says which was not."""
    drawn: dict[str, Callable[[list[Json]], str]] = {
        "monitor": operate_monitor.table,
        "rollout": rollout_table,
        "streams": operate_streams.table,
        "retrains": operate_retrains.table,
    }
    found = []
    for name, title in TITLES.items():
        mine = [row for row in rows if row["part"] == name]
        found += [f"**{title}**", "", drawn[name](mine) if mine else "Not measured.", ""]
    return "\n".join(found)


def rollout_table(rows: Sequence[Json]) -> str:
    lines = ["| candidate | rolled back / runs | requests, median |", "|---|---|---|"]
    for row in rows:
        low, high = row["interval"]
        took = "–" if row["requests"] is None else f"{row['requests']:,.0f}"
        lines.append(
            f"| {row['case']} | {row['rolled_back']} / {row['runs']} "
            f"({low:.1%}–{high:.1%}) | {took} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
