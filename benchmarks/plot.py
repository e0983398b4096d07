"""Bars with their intervals as one SVG file: readable on white and on black."""

from collections.abc import Sequence
from html import escape
from typing import Any

_WIDTH, _ROW, _LEFT, _RIGHT = 760, 24, 300, 90


def rate_bars(rows: Sequence[tuple[str, str, dict[str, Any]]]) -> str:
    """One bar a row: (system, threat, a rate with value, low, high), 0 to 100 %."""
    span = _WIDTH - _LEFT - _RIGHT
    height = _ROW * len(rows) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">'
    ]
    for index, (system, threat, rate) in enumerate(rows):
        y = 8 + _ROW * index
        at = {end: _LEFT + span * rate[end] for end in ("value", "low", "high")}
        middle = y + _ROW / 2 - 2
        parts += [
            f'<text x="{_LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end" fill="#808080">'
            f"{escape(system)} · {escape(threat)}</text>",
            f'<rect x="{_LEFT}" y="{y}" width="{max(at["value"] - _LEFT, 1):.1f}" '
            f'height="{_ROW - 6}" rx="3" fill="#d9534f" fill-opacity="0.85"/>',
            f'<path d="M{at["low"]:.1f} {middle:.1f}H{at["high"]:.1f}" stroke="#808080" '
            'stroke-width="2"/>',
            f'<text x="{max(at["high"], at["value"]) + 6:.1f}" y="{middle + 4:.1f}" fill="#808080">'
            f"{100 * rate['value']:.1f} %</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])
