"""What the domains' benchmarks measured, as a table."""

from typing import Any

_COLUMNS = {
    "recall": "recall {:.1%}",
    "false positives": "false positives {:.1%}",
    "evasion": "evasion {:.1%}",
    "queries": "{:.0f} queries a text",
    "certified": "certified {:.1%}",
    "certified_right": "certified and right {:.1%}",
    "p50_ms": "p50 {:.2f} ms",
    "p99_ms": "p99 {:.2f} ms",
}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row a measurement."""
    lines = ["| data | system | attack | n | measured |", "|---|---|---|---|---|"]
    for row in rows:
        found = [form.format(row[name]) for name, form in _COLUMNS.items() if name in row]
        if "interval" in row:
            low, high = row["interval"]
            found.append(f"95 % interval {low:.1%} to {high:.1%}")
        first = f"| {row['data']} | {row['system']} | {row['attack']} | {row['n']} |"
        lines.append(f"{first} {', '.join(found)} |")
    return "\n".join(lines)
