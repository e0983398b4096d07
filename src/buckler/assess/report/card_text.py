"""The robustness card as Markdown, with the model-index as its front matter."""

import json
from typing import Any

from buckler.assess.report.card import model_index

Json = dict[str, Any]
_FAMILY = ("atlas", "nist", "owasp", "cwe")


def as_markdown(value: Json) -> str:
    """Front matter in JSON, which YAML holds; then what a person reads."""
    threat = value["threat"]
    head = json.dumps(model_index(value), indent=1, ensure_ascii=False)
    parts = [
        f"---\n{head}\n---",
        f"# Robustness card: {value['name']}, bundle {value['digest'][:12]}",
        _verdict(value),
        "## Threat\n\n"
        f"{threat['norm']}, eps {threat['eps']:g} in input units. The attacker wants an *accepted "
        "wrong* answer and knows everything: weights, transforms, detectors, threshold.",
        "## Figures\n\n" + _figures(value),
        *_curve(value),
        *_certified(value),
        "## Is the evaluation to be believed?\n\n" + _battery(value),
        "## Attacks\n\n" + _attacks(value),
        "## What the bundle does (MITRE ATLAS)\n\n" + _listed(value["mitigations"]),
        "## EU AI Act, Article 15(5)\n\n" + _ai_act(value),
        "## Not assessed\n\n" + _listed(value["not_assessed"]),
        "## Run it again\n\n" + _again(value),
    ]
    return "\n\n".join(parts) + "\n"


def _verdict(value: Json) -> str:
    said = {True: "passed", False: "not passed", None: "not ruled on"}[value["passed"]]
    struck = [f"**Struck out**: {reason}." for reason in value["struck"]]
    return "\n\n".join([f"Deployment check: **{said}**.", *struck])


def _figures(value: Json) -> str:
    rows = ["| figure | value | 95 % interval | n |", "|---|---|---|---|"]
    for figure in value["figures"]:
        rate = figure["rate"]
        shown = f"{100 * rate['value']:.1f} %"
        shown = shown if figure["stands"] else f"~~{shown}~~"
        rows.append(f"| {_cell(figure['name'])} | {shown} | {_interval(rate)} | {rate['n']} |")
    return "\n".join(rows)


def _curve(value: Json) -> list[str]:
    if not value["curve"]:
        return []
    rows = ["| eps | success, any attack of the curve | 95 % interval |", "|---|---|---|"]
    for point in value["curve"]:
        rate = point["success"]
        shown = f"{100 * rate['value']:.1f} %"
        shown = f"~~{shown}~~" if value["struck"] else shown
        rows.append(f"| {point['eps']:g} | {shown} | {_interval(rate)} |")
    return ["## Over eps\n\n" + "\n".join(rows)]


def _certified(value: Json) -> list[str]:
    found = value["certified"]
    if found is None:
        return []
    rows = ["| L2 radius | certified accuracy | 95 % interval |", "|---|---|---|"]
    for each in found["radii"]:
        rate = each["rate"]
        rows.append(f"| {each['radius']:g} | {100 * rate['value']:.1f} % | {_interval(rate)} |")
    about = f"{found['sentence']}. About {found['about']}."
    table = "\n\n" + "\n".join(rows) if found["radii"] else ""
    return ["## Guaranteed\n\n" + about[:1].upper() + about[1:] + table]


def _battery(value: Json) -> str:
    return "\n".join(
        f"- {name}: **{found['verdict'].upper()}**. {found['sentence']}"
        for name, found in value["battery"].items()
    )


def _attacks(value: Json) -> str:
    rows = [
        "| attack | broken / given | MITRE ATLAS | NIST | OWASP | CWE |",
        "|---|---|---|---|---|---|",
    ]
    for each in value["attacks"]:
        ids = each["ids"] or dict.fromkeys(_FAMILY, "")
        atlas = ids["atlas"] if isinstance(ids["atlas"], str) else ", ".join(ids["atlas"])
        cells = (each["attack"], f"{each['broken']} / {each['given']}", atlas)
        rest = tuple(ids[name] for name in _FAMILY[1:])
        rows.append("| " + " | ".join(_cell(cell) for cell in (*cells, *rest)) + " |")
    sources = ", ".join(value["sources"].values())
    return "\n".join(rows) + f"\n\nIds as of: {sources}. Parameters: in card.json."


def _ai_act(value: Json) -> str:
    lines = [
        f"- **{each['verb']}**: {each['by']}"
        + (
            "."
            if each["shown"]
            else " (supported by operating the gateway; not shown by this card)."
        )
        for each in value["ai_act"]
    ]
    return (
        "Of the measures against inputs designed to cause a mistake (adversarial examples), this "
        "supports:\n\n" + "\n".join(lines) + "\n\nIt is evidence for a technical file, and no "
        "statement of conformity."
    )


def _again(value: Json) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in value["versions"].items())
    facts = [
        f"`{value['command']}`, {value['rows']} test rows, seed {value['seed']}",
        f"{value['hardware']}; {versions}",
        f"digest `{value['digest']}`; card of {value['when']}",
    ]
    if value["calibration"] is not None:
        facts.append(f"threshold: {value['calibration']}")
    return _listed(facts)


def _listed(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _interval(rate: Json) -> str:
    return f"{100 * rate['low']:.1f}–{100 * rate['high']:.1f} %"


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
