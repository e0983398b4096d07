"""Other users' domains under attack: python -m benchmarks.domains --data-dir DIR [--only text]."""

import argparse
from pathlib import Path

from benchmarks.domains_table import table
from benchmarks.domains_text import text_rows
from benchmarks.results_file import write_results

PARTS = {"text": text_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows")
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", choices=list(PARTS), help="one part alone")
    args = parser.parse_args()
    for name in [args.only] if args.only else list(PARTS):
        rows, bars = PARTS[name](args.data_dir, args.quick)
        command = f"python -m benchmarks.domains --data-dir DIR --only {name}"
        command += " --quick" if args.quick else ""
        path = write_results(f"domains-{name}", command, rows, bars, table(rows), args.quick)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
