"""The curves of a report, from its facts."""

import json
import math
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np

from buckler.assess.floors import certified_rate
from buckler.assess.ledger import Ledger
from buckler.assess.per_class import per_class
from buckler.errors import DataError
from buckler.look import curves
from buckler.look.plots import Curve

Json = dict[str, Any]


def over_eps(points: list[Json]) -> str:
    """Success of each attack at each eps, each given every row."""
    eps = [point["threat"]["eps"] for point in points]
    lines = [_curve(name, eps, rates) for name, rates in by_attack(points)]
    return curves(lines, "eps (input units)", "attack success") if lines else ""


def by_attack(points: list[Json]) -> list[tuple[str, list[Json]]]:
    """Each attack's rates, one a point; those that were measured at every point."""
    found = [{result["attack"]: result["rate"] for result in point["suite"]} for point in points]
    names = [name for name in found[0] if all(name in each for each in found)] if found else []
    return [(name, [each[name] for each in found]) for name in names]


def receiver(tradeoff: Json) -> str:
    """Share of harmful points stopped over the share of clean inputs flagged: points that know
    nothing of the guard against points made for each threshold anew; as far as those go."""
    if not tradeoff["points"]:
        return ""
    known = [point for point in tradeoff["points"] if point["stopped"]]
    most = 1.2 * max((p["rates"]["review_rate"]["value"] for p in known), default=1 / 1.2)
    lines = []
    clean, static = (sorted(tradeoff["scores"][kind]) for kind in ("clean", "static"))
    if static and clean:
        steps = sorted({*clean, *static}, reverse=True)
        flagged = [1 - bisect_right(clean, t) / len(clean) for t in steps]
        x = [share for share in flagged if share <= most]
        y = [1 - bisect_right(static, t) / len(static) for t in steps[: len(x)]]
        lines.append(Curve(f"static, n = {len(static)}", x, y, y, y, steps="hv"))
    if known:
        x = [point["rates"]["review_rate"]["value"] for point in known]
        name = f"adaptive, n = {tradeoff['turned']}"
        lines.append(_curve(name, x, [point["stopped"] for point in known]))
    if not lines:
        return ""
    titles = ("clean inputs sent to review", "harmful points stopped")
    return curves(lines, *titles, log_x=False, percent_x=True)


def review_curve(tradeoff: Json) -> str:
    """What a review rate buys, and what it costs."""
    points = [point for point in tradeoff["points"] if "success" in point["rates"]]
    if not points:
        return ""
    x = [point["rates"]["review_rate"]["value"] for point in points]
    lines = [
        _curve("accepted and wrong under attack", x, [p["rates"]["success"] for p in points]),
        _curve("accepted and right, clean", x, [p["rates"]["accepted_right"] for p in points]),
    ]
    own = next((p for p in points if p["asked"] == tradeoff["own"]), None)
    mark = own["rates"]["review_rate"]["value"] if own else None
    titles = ("clean inputs sent to review", "share of rows")
    return curves(lines, *titles, log_x=False, percent_x=True, mark=mark)


def certified_table(certificates: Json | None) -> list[Json]:
    """Certified accuracy at a few radii, up to the largest that any row has."""
    if certificates is None or not _has_radii(certificates):
        return []
    most = max((row["radius"] for row in certificates["certificates"]), default=0.0)
    radii = [math.floor(1000 * most * step / 5) / 1000 for step in range(6)] if most > 0 else [0.0]
    return [{"radius": r, "rate": vars(certified_rate(certificates, r))} for r in radii]


def _has_radii(certificates: Json) -> bool:
    """Certificates against patches have none."""
    return all("radius" in row for row in certificates["certificates"])


def certified_curve(certificates: Json | None) -> str:
    if certificates is None or not _has_radii(certificates):
        return ""
    rows = certificates["certificates"]
    radii = sorted({0.0, *(row["radius"] for row in rows if row["label"] == row["y"])})
    rates = [vars(certified_rate(certificates, radius)) for radius in radii]
    y = [rate["value"] for rate in rates]
    line = Curve(f"n = {len(rows)}", radii, y, y, y, steps="vh")
    return curves([line], "L2 radius (input units)", "certified accuracy", log_x=False)


def histories(output: Path) -> str:
    """Accuracy on the select split while the members were trained."""
    lines = []
    for path in sorted((output / "members").glob("*.history.json")):
        rows = [row for row in _rows(path) if "clean" in row]
        xs = [row["epoch"] for row in rows]
        member = path.name.split(".")[0]
        for kind in ("robust", "clean"):
            ys = [row[kind] for row in rows]
            lines.append(Curve(f"{member}, {kind}", xs, ys, ys, ys, group=member))
    return curves(lines, "epoch", "accuracy, select split", log_x=False) if lines else ""


def confusion(ledger: Ledger, names: tuple[str, ...]) -> Json:
    """What was answered under attack, by true class; the last column: sent to review.

    Rows that were wrong at first were not attacked; their answer stands as it was.
    """
    k = len(names)
    answer = [
        int(p) if accepted else k
        for p, accepted in zip(ledger.prediction_after, ledger.accepted_after, strict=True)
    ]
    cells = [[0] * (k + 1) for _ in range(k)]
    for truth, given in zip(ledger.y.tolist(), answer, strict=True):
        cells[truth][given] += 1
    wrong = sorted(
        ((cells[i][j], names[i], names[j]) for i in range(k) for j in range(k) if i != j),
        reverse=True,
    )
    return {
        "cells": cells,
        "totals": [sum(row) for row in cells],
        "worst": [{"n": n, "truth": a, "answer": b} for n, a, b in wrong[:5] if n],
    }


def by_class(ledger: Ledger, names: tuple[str, ...]) -> list[tuple[Json, Json]]:
    """Each class as it stands and under attack; none if some class has no row."""
    if len(np.unique(ledger.y)) < len(names):
        return []
    clean, attacked = (
        [row.to_dict() for row in per_class(ledger, names, attacked)] for attacked in (False, True)
    )
    return list(zip(clean, attacked, strict=True))


def cost(systems: list[Json]) -> Json:
    """Seconds and propagations of each attack on the guard, and of all systems together."""
    guard = next((s for s in systems if s["name"] == "guard"), None)
    spent = [a for s in systems for a in (s["static"], s["adaptive"])]
    every = [result for each in spent for result in each["suite"]]
    total = {
        name: sum(result[name] for result in every) for name in ("forwards", "backwards", "seconds")
    }
    return {"guard": guard["adaptive"]["suite"] if guard else [], "total": total}


def _rows(path: Path) -> list[Json]:
    try:
        rows: list[Json] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as JSON ({error}): write it anew with buckler harden"
        ) from None
    return rows


def _curve(name: str, x: list[float], rates: list[Json]) -> Curve:
    low, high = [r["low"] for r in rates], [r["high"] for r in rates]
    return Curve(name, x, [r["value"] for r in rates], low, high)
