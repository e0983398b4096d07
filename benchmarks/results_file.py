"""How a benchmark writes what it measured."""

import operator
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buckler import files
from buckler.guard.bundle import versions

RESULTS = Path(__file__).parent / "results"
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Bar:
    """What was asked for; a bar once listed stays, met or not."""

    name: str
    value: float
    n: int
    interval: tuple[float, float] | None
    op: str
    bar: float

    @property
    def met(self) -> bool:
        return bool(_OPERATORS[self.op](self.value, self.bar))


def hardware() -> str:
    return f"{os.cpu_count()}-core {platform.machine()} CPU, no GPU"


def percent(rate: Mapping[str, Any]) -> str:
    """A rate's value with its interval, as tables tell it."""
    return f"{100 * rate['value']:.1f} % ({100 * rate['low']:.1f}–{100 * rate['high']:.1f})"


def write_results(
    name: str,
    command: str,
    rows: Sequence[dict[str, Any]],
    bars: Sequence[Bar],
    table: str,
    quick: bool,
) -> Path:
    """NAME.json and NAME.md in benchmarks/results, or in out/ for a quick run."""
    folder = Path("out/benchmarks") if quick else RESULTS
    value = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": command,
        "hardware": hardware(),
        "versions": versions(),
        "rows": list(rows),
        "bars": [{**asdict(bar), "met": bar.met} for bar in bars],
    }
    files.write_json(folder / f"{name}.json", value)
    facts = f"`{command}` · {value['when']} · {value['hardware']} · " + ", ".join(
        f"{package} {number}"
        for package, number in value["versions"].items()  # type: ignore[attr-defined]
    )
    lines = [table.strip(), "", "| bar | measured | asked | |", "|---|---|---|---|"]
    for bar in bars:
        mark = "met" if bar.met else "**unmet**"
        lines.append(f"| {bar.name} | {bar.value:.4g} | {bar.op} {bar.bar:g} | {mark} |")
    files.write_text(folder / f"{name}.md", "\n".join([*lines, "", facts, ""]))
    return folder / f"{name}.md"
