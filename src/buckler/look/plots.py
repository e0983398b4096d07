"""Curves with intervals, drawn by plotly from inside the page."""

from dataclasses import dataclass

_COLOURS = ("#d1495b", "#1f77d0", "#2a9d62", "#8a63d2", "#c98a1b")
_DASHES = ("solid", "dot", "dash")
_GREY = "#8a919c"


@dataclass(frozen=True)
class Curve:
    """Points x, y with the ends of their intervals, all of one length.

    group: curves of one group have one colour; the second of it is dotted, the third dashed.
    """

    name: str
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]
    group: str = ""


def curves(lines: list[Curve], title_x: str, title_y: str, *, log_x: bool = True) -> str:
    """A <div> with the curves; the page must hold `plotly_script()` once."""
    import plotly.graph_objects as go
    import plotly.io

    figure = go.Figure()
    groups: dict[str, list[Curve]] = {}
    for line in lines:
        members = groups.setdefault(line.group or line.name, [])
        colour = _COLOURS[list(groups).index(line.group or line.name) % len(_COLOURS)]
        dash = _DASHES[len(members) % len(_DASHES)]
        members.append(line)
        up = [h - v for h, v in zip(line.high, line.y, strict=True)]
        down = [v - low for v, low in zip(line.y, line.low, strict=True)]
        errors = {"type": "data", "array": up, "arrayminus": down, "thickness": 1.2, "width": 3}
        figure.add_scatter(
            x=line.x,
            y=line.y,
            name=line.name,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            error_y=errors if max(up + down) > 0 else None,
        )
    axis = {"gridcolor": "rgba(138,145,156,.25)", "zeroline": False}
    scale = {"type": "log", "tickvals": sorted(lines[0].x)} if log_x else {}
    figure.update_layout(
        xaxis={**axis, "title": title_x, **scale},
        yaxis={**axis, "title": title_y, "tickformat": ".0%", "range": [-0.02, 1.02]},
        font={"color": _GREY},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        height=380 + 18 * (len(lines) // 2),
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"},
    )
    options = {"displayModeBar": False, "responsive": True}
    html: str = plotly.io.to_html(figure, full_html=False, include_plotlyjs=False, config=options)
    return html


def plotly_script() -> str:
    """plotly's own JavaScript file, from the installed package."""
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source
