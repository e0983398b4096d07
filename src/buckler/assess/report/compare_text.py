"""A comparison as Markdown."""

from typing import Any

from buckler.assess.report.compare import FIGURES

Json = dict[str, Any]


def as_markdown(value: Json) -> str:
    """The figures side by side, the differences, then the money with all its inputs."""
    runs = value["runs"]
    parts = ["# Compared", _table(runs), *_struck(runs)]
    parts += [_difference(each) for each in value["differences"]]
    if "money" in value:
        parts += _money(value["money"])
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(runs: list[Json]) -> str:
    lines = [
        "| | " + " | ".join(_cell(run["name"]) for run in runs) + " |",
        "|---" * (len(runs) + 1) + "|",
        "| threat | " + " | ".join(_threat(run["threat"]) for run in runs) + " |",
    ]
    for name, title in FIGURES.items():
        cells = [_rate(run["rates"].get(name), bool(run["struck"]) and name == "success")
                 for run in runs]  # fmt: skip
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    if any(run["added_latency_p95_ms"] is not None for run in runs):
        cells = [
            "–" if (ms := run["added_latency_p95_ms"]) is None else f"{ms:.2f}" for run in runs
        ]
        lines.append("| added latency at p95, ms | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _struck(runs: list[Json]) -> list[str]:
    return [f"{run['name']}: struck out, {why}." for run in runs for why in run["struck"]]


def _difference(each: Json) -> str:
    lines = [
        f"- {pair['name']}: **{pair['verdict']}**; of {pair['n']} rows {pair['won']} won, "
        f"{pair['lost']} lost, {100 * pair['gain']:+.1f} points "
        f"[{100 * pair['low']:+.1f} to {100 * pair['high']:+.1f}], p = {pair['p']:.2g}"
        for pair in each["paired"]
    ]
    if each["note"]:
        lines.append(f"- {each['note']}")
    return f"**{each['other']} against {each['first']}**\n\n" + "\n".join(lines)


def _money(money: Json) -> list[str]:
    parts = ["## Money at risk"]
    parts.append("\n".join(f"{i}. {week['sentence']}." for i, week in enumerate(money["rank"], 1)))
    parts += [
        f"- {run['name']}: no amount is told, its figure is struck out."
        for run in money["left_out"]
    ]
    if money["change"] is not None:
        parts += ["## The second in the first's place", _claim(money["change"])]
    if money["guards"]:
        parts += ["## The guard against no guard", *map(_claim, money["guards"])]
    if money["thresholds"]:
        parts += ["## The review rate that costs least", *map(_threshold, money["thresholds"])]
    parts.append("Intervals hold together with at least 95 %; every input stands in its sentence.")
    return parts


def _claim(found: Json) -> str:
    low, high = found["saved"]["low"], found["saved"]["high"]
    doubt = " The interval holds 0: no saving is shown." if low <= 0 <= high else ""
    return f"{found['sentence']}. {found['break_even'].capitalize()}.{doubt}"


def _threshold(found: Json) -> str:
    asked = f"{100 * found['asked']:g} %" if found["asked"] else "no review at all"
    if found["change"] is None:
        return f"{found['name']}: {asked}, which is what is set."
    return (
        f"{found['name']}: {asked}, in place of {100 * found['own']:g} %; chosen on one half of "
        f"the rows, told of the other. {_claim(found['change'])}"
    )


def _rate(rate: Json | None, struck: bool) -> str:
    if rate is None:
        return "–"
    shown = f"{100 * rate['value']:.1f} %"
    shown = f"~~{shown}~~" if struck else shown
    return f"{shown} ({100 * rate['low']:.1f}–{100 * rate['high']:.1f}; n = {rate['n']})"


def _threat(threat: Json) -> str:
    return " ".join(str(threat[key]) for key in ("norm", "eps") if key in threat)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
