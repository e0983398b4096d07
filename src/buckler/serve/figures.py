"""Charts as plain values: plotly's traces with a tone for each, which the page's script turns into
the colour of the theme. Whatever a colour tells, a pattern, a dash or a sign tells too."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from buckler.stats import wilson
from buckler.store.traffic import Mark, Slot

_SURE = 0.999

Figure = Mapping[str, Any]


def when(at: float) -> str:
    """UTC, to the minute."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _to_the_second(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def begins(slots: Sequence[Slot]) -> list[str]:
    """When each slot begins, with seconds where slots are shorter than a minute."""
    whole = all(slot.at % 60 == 0 for slot in slots)
    return [(when if whole else _to_the_second)(slot.at) for slot in slots]


def verdicts(slots: Sequence[Slot]) -> Figure:
    """Rows a slot, stacked."""
    x = begins(slots)
    return {
        "data": [
            _bars("ACCEPTED", x, [slot.accepted for slot in slots], "mark", ""),
            _bars("SUSPICIOUS", x, [slot.suspicious for slot in slots], "bad", "/"),
        ],
        "layout": {"barmode": "stack", "yaxis": {"title": {"text": "rows"}}},
    }


def attacks(slots: Sequence[Slot], marks: Sequence[Mark]) -> Figure:
    """SUSPICIOUS and confirmed rows; above them a page is a triangle, a ticket a diamond."""
    x = begins(slots)
    top = max([1, *(slot.suspicious for slot in slots)])
    signs = {"page": ("triangle-down", "bad", 1.1), "ticket": ("diamond-open", "ink", 1.25)}
    raised = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"{tier} alert",
            "x": [_to_the_second(mark.at) for mark in marks if mark.tier == tier],
            "y": [height * top for mark in marks if mark.tier == tier],
            "text": [_plain(mark.title) for mark in marks if mark.tier == tier],
            "hoverinfo": "text+x",
            "marker": {"symbol": sign, "size": 13},
            "tone": tone,
        }
        for tier, (sign, tone, height) in signs.items()
        if any(mark.tier == tier for mark in marks)
    ]
    return {
        "data": [
            _bars("SUSPICIOUS", x, [slot.suspicious for slot in slots], "mark", "/"),
            _bars("confirmed adversarial", x, [slot.confirmed for slot in slots], "bad", "x"),
            *raised,
        ],
        "layout": {"barmode": "overlay", "yaxis": {"title": {"text": "rows"}}},
    }


def compared(names: Sequence[str], counts: Sequence[int], expected: float | None) -> Figure:
    """Shares of rows a bin, and the reference as a dashed line."""
    total = sum(counts) or 1
    bars = _bars("last hour", list(names), [count / total for count in counts], "mark", "/")
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "calibration",
        "x": list(names),
        "y": [expected] * len(names),
        "line": {"dash": "dash", "width": 3},
        "tone": "ink",
    }
    data = [bars] if expected is None else [bars, line]
    layout = {"yaxis": {"title": {"text": "share of rows"}, "tickformat": ".0%"}}
    return {"data": data, "layout": {**layout, "xaxis": {"type": "category"}}}


def against(counts: Sequence[int], expected: float | None) -> list[dict[str, Any]]:
    """Each bin: rows, share, and whether it is surely more or fewer than expected (Wilson, 99.9 %
    a bin)."""
    total = sum(counts)
    found = []
    for count in counts:
        rate = wilson(count, total, _SURE) if total else None
        says = ""
        if rate is not None and expected is not None:
            says = (
                "more"
                if rate.low > expected
                else "fewer"
                if rate.high < expected
                else "as expected"
            )
        found.append({"rows": count, "share": count / total if total else 0.0, "says": says})
    return found


def daily(days: Sequence[tuple[float, int]]) -> Figure:
    x = [when(at)[:10] for at, _ in days]
    bars = _bars("decided", x, [count for _, count in days], "mark", "/")
    return {"data": [bars], "layout": {"yaxis": {"title": {"text": "items decided"}}}}


def _bars(name: str, x: list[str], y: Sequence[float], tone: str, pattern: str) -> dict[str, Any]:
    marker = {"pattern": {"shape": pattern, "solidity": 0.35}} if pattern else {}
    return {"type": "bar", "name": name, "x": x, "y": list(y), "marker": marker, "tone": tone}


def _plain(text: str) -> str:
    """plotly reads some tags in texts: what came from outside has none."""
    return text.replace("&", "and").replace("<", "‹").replace(">", "›")
