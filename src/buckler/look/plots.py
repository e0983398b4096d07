"""Curves with intervals, drawn by plotly from inside the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

_COLOURS = ("#d1495b", "#1f77d0", "#2a9d62", "#8a63d2", "#c98a1b")
_DASHES = ("solid", "dot", "dash")
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")
_GREY = "#8a919c"


@dataclass(frozen=True)
class Curve:
    """Points x, y with the ends of their intervals, all of one length.

    group: curves of one group have one colour; the second of it is dotted, the third dashed.
    steps: many points, joined by steps and not marked one by one; "hv" keeps a value up to the next
        point, "vh" takes the next one's at once.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    group: str = ""
    steps: Literal["", "hv", "vh"] = ""


def curves(
    lines: Sequence[Curve],
    title_x: str,
    title_y: str,
    *,
    log_x: bool = True,
    percent_x: bool = False,
    mark: float | None = None,
) -> str:
    """A <div> with the curves; the page must hold `plotly_script()` once.

    Args:
        log_x: x is radii, each with its own tick.
        percent_x: x is a share.
        mark: where a line stands upright: what is set now.
    """
    import plotly.graph_objects as go
    import plotly.io

    figure = go.Figure()
    groups: dict[str, list[Curve]] = {}
    for line in lines:
        members = groups.setdefault(line.group or line.name, [])
        colour = list(groups).index(line.group or line.name)
        figure.add_scatter(**_trace(line, colour, len(members)))
        members.append(line)
    axis = {"gridcolor": "rgba(138,145,156,.25)", "zeroline": False}
    scale: dict[str, Any] = {}
    if log_x:
        scale = {"type": "log", "tickvals": sorted({x for line in lines for x in line.x})}
    elif percent_x:
        scale = {"tickformat": ".3~p", "rangemode": "tozero"}
    if mark is not None:
        figure.add_vline(x=mark, line={"color": _GREY, "width": 1, "dash": "dash"})
    figure.update_layout(
        xaxis={**axis, "title": title_x, **scale},
        yaxis={**axis, "title": title_y, "tickformat": ".0%", "range": [-0.02, 1.02]},
        font={"color": _GREY},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        height=360 + 18 * len(lines),
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"},
    )
    options = {"displayModeBar": False, "responsive": True}
    html: str = plotly.io.to_html(figure, full_html=False, include_plotlyjs=False, config=options)
    return html


def _trace(line: Curve, colour: int, before: int) -> dict[str, Any]:
    """Told apart by colour, and by dash or symbol for those who see none."""
    up = [h - v for h, v in zip(line.high, line.y, strict=True)]
    down = [v - low for v, low in zip(line.y, line.low, strict=True)]
    errors = {"type": "data", "array": up, "arrayminus": down, "thickness": 1.2, "width": 3}
    drawn: dict[str, Any] = {
        "color": _COLOURS[colour % len(_COLOURS)],
        "width": 2,
        "dash": _DASHES[before % len(_DASHES)],
    }
    if line.steps:
        drawn["shape"] = line.steps
    return {
        "x": list(line.x),
        "y": list(line.y),
        "name": line.name,
        "mode": "lines" if line.steps else "lines+markers",
        "line": drawn,
        "marker": {"symbol": _SYMBOLS[colour % len(_SYMBOLS)], "size": 7},
        "error_y": errors if max([*up, *down, 0]) > 0 else None,
    }


def plotly_script() -> str:
    """plotly's own JavaScript file, from the installed package."""
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source
