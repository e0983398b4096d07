"""One page for a fraud team: money over spending, recipes, features, alerts. Opens offline."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from buckler import files
from buckler.assess.floors import Item
from buckler.assess.fraud.exposure import Exposure
from buckler.assess.fraud.recipes import by_feature, recipes
from buckler.assess.fraud.standing import Standing
from buckler.look import curves, plotly_script, stylesheet
from buckler.look.plots import Curve
from buckler.ops.impact import Range
from buckler.stats import Rate, wilson

_POINTS = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_TOP = 8  # features told


@dataclass(frozen=True)
class Side:
    """One model of the page: what evades it, how it stands, and the finisher's gap if a gradient
    attack was run before the search: (caught after the gradient alone, after both, of)."""

    exposure: Exposure
    standing: Standing
    gap: tuple[int, int, int] | None = None


def write_page(
    title: str,
    command: str,
    sides: Sequence[Side],
    path: Path,
    *,
    gate: Item | None = None,
    sensitive: Sequence[dict[str, Any]] = (),
) -> Path:
    """The page, one column a model, in the order given (the ordinary one first)."""
    budgets = points(max(side.exposure.budget for side in sides))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"money": _money, "rate": _rate}
    text = resources("buckler.assess.fraud").joinpath("page.html").read_text()
    files.write_text(
        path,
        environment.from_string(text).render(
            title=title,
            command=command,
            when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            css=stylesheet(),
            plotly=plotly_script(),
            sides=sides,
            budgets=budgets,
            curve=loss_curve(sides, budgets),
            caught=[[wilson(*side.exposure.recall(b)) for side in sides] for b in budgets],
            evaded=[[side.exposure.evaded(b) for side in sides] for b in budgets],
            recipes=[(side.exposure.name, recipes(side.exposure)) for side in sides],
            features=[
                (side.exposure.name, by_feature(side.exposure, budgets[-1])[:_TOP])
                for side in sides
            ],
            gate=gate,
            sensitive=sensitive,
        ),
    )
    return path


def points(most: float) -> list[float]:
    """Spendings that are told, up to what the attack spent."""
    return [*(each for each in _POINTS if each < most), most]


def loss_curve(sides: Sequence[Side], budgets: Sequence[float]) -> str:
    lines = []
    for side in sides:
        found = [side.exposure.evaded(budget) for budget in budgets]
        lines.append(
            Curve(
                side.exposure.name,
                list(budgets),
                [each.value for each in found],
                [each.low for each in found],
                [each.high for each in found],
            )
        )
    titles = ("the most an attacker spends on one fraud ($)", "evaded a week ($)")
    return curves(lines, *titles, log_x=False)


def _money(found: Range | float) -> str:
    if isinstance(found, Range):
        return f"${found.value:,.0f} ({found.low:,.0f} to {found.high:,.0f})"
    return f"${found:,.2f}" if np.isfinite(found) else "–"


def _rate(found: Rate) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"
