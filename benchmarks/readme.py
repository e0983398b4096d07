"""Put the measured tables into the README: python -m benchmarks.readme."""

import re
from pathlib import Path

from buckler import files

ROOT = Path(__file__).parents[1]


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text()
    for name in re.findall(r"<!-- results: ([\w-]+) -->", text):
        table = (ROOT / "benchmarks" / "results" / f"{name}.md").read_text()
        pattern = rf"(<!-- results: {name} -->\n).*?(<!-- /results -->)"
        text = re.sub(pattern, lambda m, t=table: m[1] + t + m[2], text, count=1, flags=re.S)
    files.write_text(path, text)


if __name__ == "__main__":
    main()
