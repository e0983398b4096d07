"""The evidence of one project as one page that opens offline."""

from datetime import UTC, datetime
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from buckler import files
from buckler.assess.report import figures
from buckler.assess.report.facts import Evidence, Facts, gather
from buckler.assess.report.pictures import galleries
from buckler.errors import DataError
from buckler.look import plotly_script, stylesheet

Json = dict[str, Any]
_MOST_CLASSES = 12


def write_report(evidence: Evidence, path: Path) -> None:
    """Write the page; parts whose evidence is not there are left out.

    Raises: DataError if a file of the evidence is broken, of another version or about another
        bundle.
    """
    facts = gather(evidence)
    try:
        text = _environment().get_template("report.html").render(_context(evidence, facts))
    except (KeyError, TypeError, AttributeError, jinja2.UndefinedError) as error:
        raise DataError(
            f"{evidence.bundle / 'evidence'} holds evidence in which something is missing "
            f"({error}): write it anew with buckler assess"
        ) from error
    files.write_text(path, text)


def _context(evidence: Evidence, facts: Facts) -> Json:
    adaptive = facts.adaptive
    names, ledger = evidence.class_names, facts.ledger
    return {
        "name": evidence.name,
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": evidence.command,
        "config": evidence.config,
        "css": stylesheet(),
        "plotly": plotly_script(),
        "facts": facts,
        "warnings": _warnings(facts),
        "guard": facts.guard,
        "undefended": next((s for s in facts.systems if s["name"] == "undefended"), None),
        "threat": _threat(adaptive.get("threat", {})),
        "adaptive": adaptive,
        "curve": facts.undefended["points"],
        "curves": [
            ("The undefended classifier", figures.over_eps(facts.undefended["points"])),
            ("Our guard", figures.over_eps(facts.curve)),
        ],
        "attacks": figures.by_attack(facts.undefended["points"]),
        "galleries": galleries(evidence),
        "history": figures.histories(evidence.output),
        "class_names": names,
        "confusion": None if ledger is None else figures.confusion(ledger, names),
        "by_class": [] if ledger is None else figures.by_class(ledger, names),
        "whole": len(names) <= _MOST_CLASSES,
        "receiver": figures.receiver(facts.tradeoff),
        "review_curve": figures.review_curve(facts.tradeoff),
        "certified": figures.certified_table(facts.certificates),
        "certified_curve": figures.certified_curve(facts.certificates),
        "cost": figures.cost(facts.systems),
        "versions": ", ".join(f"{k} {v}" for k, v in adaptive.get("versions", {}).items()),
    }


def _warnings(facts: Facts) -> list[str]:
    """What a person must read before any figure."""
    failed = [
        f"{system['name']}: {reason}"
        for system in facts.systems
        for reason in system["struck"]
        if system["name"] in ("guard", "undefended")
    ]
    return [
        *failed,
        *(f"Too good to be true: {a['sentence']}" for a in facts.alarms if a["raised"]),
    ]


def _environment() -> jinja2.Environment:
    folder = resources("buckler.assess.report")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text()),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rate"] = _rate
    environment.filters["inline"] = _inline
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
    environment.filters["figure"] = lambda value: f"{value:.4g}"
    environment.filters["count"] = lambda value: f"{value:,}"
    return environment


def _rate(value: Json | jinja2.Undefined | None) -> str:
    """A rate with its interval underneath; a dash where nothing was measured."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    low, high = 100 * value["low"], 100 * value["high"]
    return Markup("{:.1f} %<small>{:.1f}–{:.1f}</small>").format(100 * value["value"], low, high)


def _inline(value: Json) -> str:
    """A rate within a sentence."""
    low, high = 100 * value["low"], 100 * value["high"]
    return f"{100 * value['value']:.1f} % ({value['k']} of {value['n']}; {low:.1f}–{high:.1f} %)"


def _threat(threat: Json) -> str:
    return f"{threat.get('norm', '')} eps {threat.get('eps', '')}"
