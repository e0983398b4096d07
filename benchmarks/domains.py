"""Other users' domains under attack: python -m benchmarks.domains --data-dir DIR [--only PART].

Parts: text, medical, signs, recommendation; each writes results/domains-PART.json and .md.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import domains_medical, domains_recommend, domains_signs
from benchmarks.domains_table import table
from benchmarks.domains_text import text_rows
from benchmarks.results_file import Bar, write_results

Found = tuple[Sequence[dict[str, Any]], Sequence[Bar], str]


def _text(folder: Path, quick: bool) -> Found:
    rows, bars = text_rows(folder, quick)
    return rows, bars, table(rows)


PARTS: dict[str, Callable[[Path, bool], Found]] = {
    "text": _text,
    "medical": domains_medical.measured,
    "signs": lambda _, quick: domains_signs.measured(quick),
    "recommendation": lambda _, quick: domains_recommend.measured(quick),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows")
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", choices=list(PARTS), help="one part alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in [args.only] if args.only else list(PARTS):
        rows, bars, text = PARTS[name](args.data_dir, args.quick)
        command = f"python -m benchmarks.domains --data-dir DIR --only {name}"
        command += " --quick" if args.quick else ""
        path = write_results(f"domains-{name}", command, rows, bars, text, args.quick)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
