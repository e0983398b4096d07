"""What runs are worth in money: who is most at risk, what a guard saves, which threshold is
cheapest. Every amount holds its inputs; a struck figure tells no amount."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from buckler.assess.report.runs import Run
from buckler.ops.impact import Impact, Prices, System, Traffic, cheapest, impact, week

Json = dict[str, Any]


@dataclass(frozen=True)
class Terms:
    """What one run's endpoint sees in a week, and what things cost there."""

    traffic: Traffic
    prices: Prices


def in_money(runs: Sequence[tuple[Run, Terms]]) -> Json:
    """rank: the runs by money at risk a week, the most first. guards: each against its classifier
    without a guard. change: the second of two runs in the first's place. thresholds: the review
    rate that costs least. left_out: runs whose figure is struck out.
    """
    standing = [(run, terms) for run, terms in runs if not run.struck]
    weeks = [week(terms.traffic, terms.prices, run.system) for run, terms in standing]
    weeks.sort(key=lambda found: -found.at_risk.value)
    guards = [
        _told(impact(terms.traffic, terms.prices, run.before, run.system))
        for run, terms in standing
        if run.before is not None
    ]
    change = None
    if len(runs) == len(standing) == 2 and runs[0][1] == runs[1][1]:
        (first, terms), (second, _) = runs
        change = _told(impact(terms.traffic, terms.prices, first.system, second.system))
    return {
        "rank": [found.to_dict() for found in weeks],
        "guards": guards,
        "change": change,
        "thresholds": [
            found for run, terms in standing if (found := threshold(run, terms)) is not None
        ],
        "left_out": [
            {"name": run.name, "struck": list(run.struck)} for run, _ in runs if run.struck
        ],
    }


def threshold(run: Run, terms: Terms) -> Json | None:
    """The review rate that costs least, chosen on one half of the rows and told of the other; None
    where the guard was not tried at several."""
    if run.tradeoff is None or len(run.tradeoff["points"]) < 2:
        return None
    points, set_now = run.tradeoff["points"], run.tradeoff["own"]
    choose, tell = ([_system(run, point, half) for point in points] for half in (0, 1))
    best = choose.index(cheapest(terms.traffic, terms.prices, choose))
    own = next(i for i, point in enumerate(points) if point["asked"] == set_now)
    found = impact(terms.traffic, terms.prices, tell[own], tell[best])
    return {
        "name": run.name,
        "asked": points[best]["asked"],
        "own": points[own]["asked"],
        "change": None if best == own else _told(found),
        "unit": terms.prices.unit,
    }


def _system(run: Run, point: Json, half: int) -> System:
    counts = {name: (count[0], count[1]) for name, count in point["halves"][half].items()}
    if not point["asked"]:
        return System(f"{run.name} without review", counts["missed"], None, None)
    return System(f"{run.name} at {100 * point['asked']:g} % review", **counts)


def _told(found: Impact) -> Json:
    """As JSON, with what break-even prevalence means in words."""
    if found.always:
        words = "it pays at every share of attacks"
    elif found.pays_from is not None:
        words = f"it pays from {100 * found.pays_from:.3g} % attacks on"
    else:
        words = "there is no share of attacks from which it pays on"
    return {**found.to_dict(), "break_even": words}
