"""The evidence of one project as one page that opens offline."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from buckler import files
from buckler.assess.pictures import load_examples
from buckler.errors import DataError
from buckler.look import curves, data_uri, difference_uri, plotly_script, stylesheet
from buckler.look.plots import Curve
from buckler.stats import wilson

Json = dict[str, Any]
RADII = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Evidence:
    """Where the files lie that the page is made of, and what names it."""

    name: str
    command: str
    class_names: tuple[str, ...]
    box: tuple[float, float]
    output: Path
    bundle: Path


def write_report(evidence: Evidence, path: Path) -> None:
    """Write the page; parts whose evidence is not there are left out."""
    folder = evidence.bundle / "evidence"
    comparison = _read(folder / "comparison.json") or {"systems": [], "digest": ""}
    undefended = _read(evidence.output / "assessment" / "undefended.json") or {"points": []}
    battery = _read(folder / "battery.json") or {}
    batteries = {name: value for name, value in battery.items() if isinstance(value, dict)}
    if old := [name for name, value in batteries.items() if "questions" not in value]:
        raise DataError(
            f"the battery of {', '.join(old)} in {folder} was written by another version: run "
            "buckler assess on this bundle"
        )
    certificates = _read(folder / "certificates.json")
    alarms = (_read(folder / "alarms.json") or {"alarms": []})["alarms"]
    systems = comparison["systems"]
    guard: Json = next((s for s in systems if s["name"] == "guard"), {})
    adaptive = guard.get("adaptive", {})
    guard_curve = (_read(folder / "curve.json") or {"points": []})["points"]
    text = _environment().render(
        name=evidence.name,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=evidence.command,
        css=stylesheet(),
        plotly=plotly_script(),
        digest=comparison["digest"],
        warnings=[
            *(f"{n}: {b['sentence']}" for n, b in batteries.items() if not b["believable"]),
            *(f"Too good to be true: {a['sentence']}" for a in alarms if a["raised"]),
        ],
        alarms=alarms,
        parts=(_read(folder / "ablation.json") or {"parts": []})["parts"],
        ruling=_read(folder / "ruling.json"),
        systems=systems,
        threat=_threat(adaptive.get("threat", {})),
        rows=adaptive.get("n"),
        seed=adaptive.get("seed"),
        plot=_plot(undefended["points"], guard_curve),
        findings=undefended.get("findings", []),
        curve=undefended["points"],
        attacks=_attacks(undefended["points"]),
        one_pixel=undefended.get("one_pixel"),
        galleries=_galleries(evidence),
        history=_histories(evidence.output),
        build=_read(evidence.output / "build" / "build.json"),
        latency=_read(folder / "latency.json"),
        certificates=certificates,
        certified=certified_curve(certificates) if certificates else [],
        batteries=batteries,
        disbelieved=[name for name, value in batteries.items() if not value["believable"]],
        versions=", ".join(f"{k} {v}" for k, v in adaptive.get("versions", {}).items()),
        hardware=f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        suite=adaptive.get("suite", []),
    )
    files.write_text(path, text)


def certified_curve(certificates: Json) -> list[Json]:
    """Certified accuracy at each radius: right, and certified at least that far / all rows."""
    rows = certificates["certificates"]
    found = []
    for radius in RADII:
        right = sum(row["label"] == row["y"] and row["radius"] >= radius for row in rows)
        found.append({"radius": radius, "rate": asdict(wilson(right, len(rows)))})
    return found


def _read(path: Path) -> Json | None:
    return files.read_json(path) if path.exists() else None


def _environment() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["rate"] = _rate
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
    environment.filters["figure"] = lambda value: f"{value:.4g}"
    source = resources("buckler.assess.report").joinpath("report.html").read_text()
    return environment.from_string(source)


def _rate(value: Json | jinja2.Undefined | None) -> str:
    """A rate with its interval underneath; a dash where nothing was measured."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    low, high = 100 * value["low"], 100 * value["high"]
    return Markup("{:.1f} %<small>{:.1f}–{:.1f}</small>").format(100 * value["value"], low, high)


def _threat(threat: Json) -> str:
    return f"{threat.get('norm', '')} eps {threat.get('eps', '')}"


def _attacks(points: list[Json]) -> list[Json]:
    names = [result["attack"] for result in points[0]["suite"]] if points else []
    return [{"name": name, "rates": [_rate_of(point, name) for point in points]} for name in names]


def _rate_of(point: Json, name: str) -> Json:
    found: Json = next(result["rate"] for result in point["suite"] if result["attack"] == name)
    return found


def _plot(undefended: list[Json], guard: list[Json]) -> str:
    lines = []
    for attack in _attacks(undefended):
        xs = [point["threat"]["eps"] for point in undefended]
        lines.append(_curve(f"undefended, {attack['name']}", xs, attack["rates"]))
    if guard:
        xs = [point["threat"]["eps"] for point in guard]
        rates = [point["rates"]["success"] for point in guard]
        lines.append(_curve("our guard, selective PGD", xs, rates))
    return curves(lines, "eps (input units)", "attack success") if lines else ""


def _curve(name: str, xs: list[float], rates: list[Json]) -> Curve:
    low, high = [r["low"] for r in rates], [r["high"] for r in rates]
    return Curve(name, xs, [r["value"] for r in rates], low, high)


def _histories(output: Path) -> str:
    lines = []
    for path in sorted((output / "members").glob("*.history.json")):
        rows = [row for row in json.loads(path.read_bytes()) if "clean" in row]
        xs = [row["epoch"] for row in rows]
        member = path.name.split(".")[0]
        for kind in ("robust", "clean"):
            ys = [row[kind] for row in rows]
            lines.append(Curve(f"{member}, {kind}", xs, ys, ys, ys, group=member))
    return curves(lines, "epoch", "accuracy, select split", log_x=False) if lines else ""


def _galleries(evidence: Evidence) -> list[Json]:
    if len(_shape(evidence)) != 3:
        return []
    sources = (
        ("One pixel", evidence.output / "assessment" / "one_pixel.npz"),
        ("The undefended classifier, fooled", evidence.output / "assessment" / "examples.npz"),
        ("What still gets past the guard", evidence.bundle / "evidence" / "examples.npz"),
    )
    found = []
    for title, path in sources:
        examples = load_examples(path)
        if examples is not None:
            found.append({"title": title, "pictures": _pictures(evidence, examples)})
    return found


def _shape(evidence: Evidence) -> tuple[int, ...]:
    examples = load_examples(evidence.output / "assessment" / "examples.npz")
    return () if examples is None else tuple(examples["x"].shape[1:])


def _pictures(evidence: Evidence, examples: dict[str, np.ndarray]) -> list[Json]:
    names = evidence.class_names
    return [
        {
            "row": int(examples["row"][i]),
            "before": names[int(examples["before"][i])],
            "after": names[int(examples["after"][i])],
            "x": data_uri(examples["x"][i], evidence.box),
            "x_adv": data_uri(examples["x_adv"][i], evidence.box),
            "delta": difference_uri(examples["x"][i], examples["x_adv"][i]),
        }
        for i in range(len(examples["y"]))
    ]
