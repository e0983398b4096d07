"""What a run found, all of it derived from its state: report.json, and the same for eyes."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buckler import files
from buckler.assess.redteam.journal import read_lines
from buckler.assess.redteam.page import as_html, as_markdown
from buckler.assess.redteam.since import compared, last_run
from buckler.inputs import InputSpec
from buckler.stats import wilson

SCHEMA = "buckler.redteam/1"
CLEAN = "clean"
Json = dict[str, Any]


def write_reports(
    folder: Path, spec: InputSpec, facts: Mapping[str, object], since: Path | None
) -> None:
    """report.json, report.md and report.html of the run in `folder`.

    Args:
        facts: how the run ended: ended, spent, digest, seconds, decisions.
        since: the run to compare with; default: the last one of the same target and threat.
    """
    settings: Json = files.read_json(folder / "run.json")
    lines = read_lines(folder / "state.jsonl")
    value = summarised(settings, lines, facts)
    value["run"] = folder.name
    since = since or last_run(folder, settings)
    value["since"] = compared(value, lines, since) if since else None
    files.write_json(folder / "report.json", value)
    files.write_text(folder / "report.md", as_markdown(value))
    files.write_text(folder / "report.html", as_html(value, folder, spec))


def summarised(settings: Json, lines: Sequence[Json], facts: Mapping[str, object]) -> Json:
    """Rates and counts of a run.

    success: rows with a winning point inside the threat / rows right at first that every attack has
    finished. success_as_file: the same, where a file of that point wins too. A rate over no rows is
    absent.
    """
    clean = {each["row"]: each for each in lines if each["attack"] == CLEAN}
    tried = [each for each in lines if each["attack"] != CLEAN]
    right = [row for row, each in clean.items() if each["prediction"] == each["y"]]
    names = [attack["name"] for attack in settings["attacks"]]
    ended = {(each["row"], each["attack"]) for each in tried}
    finished = {row for row in right if all((row, name) in ended for name in names)}
    won = {each["row"] for each in tried if each["won"]} & finished
    filed = {each["row"] for each in tried if each["won"] and each["as_file"]} & finished
    value: Json = {
        "schema": SCHEMA,
        **{name: settings[name] for name in _COPIED},
        **facts,
        "when": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "rows": {"asked": len(clean), "right": len(right), "finished": len(finished)},
        "attacks": [_attack(attack, tried) for attack in settings["attacks"]],
        "classes": _classes(clean, finished, won),
        "findings": [
            {name: each[name] for name in _OF_FINDING} | {"before": _before(clean, each)}
            for each in tried
            if each["won"]
        ],
    }
    if clean:
        value["clean_accuracy"] = asdict(wilson(len(right), len(clean)))
        flagged = sum(each["status"] == "SUSPICIOUS" for each in clean.values())
        if settings["rejects"]:
            value["review_rate"] = asdict(wilson(flagged, len(clean)))
    if finished:
        value["success"] = asdict(wilson(len(won), len(finished)))
        if any(each["as_file"] is not None for each in tried if each["won"]):
            value["success_as_file"] = asdict(wilson(len(filed), len(finished)))
    return value


_COPIED = ("source", "threat", "suite", "queries", "per_row", "rate", "seed", "data", "versions")
_OF_FINDING = ("row", "attack", "y", "after", "distance", "queries", "as_file", "finding")


def _attack(attack: Json, tried: Sequence[Json]) -> Json:
    """One attack's own figures: won / the rows it has finished."""
    mine = [each for each in tried if each["attack"] == attack["name"]]
    won = [each["queries"] for each in mine if each["won"]]
    value: Json = {**attack, "broken": len(won), "given": len(mine)}
    value["queries"] = sum(each["queries"] for each in mine)
    if mine:
        value["rate"] = asdict(wilson(len(won), len(mine)))
    if won:
        value["median_queries_to_win"] = statistics.median(won)
    return value


def _classes(clean: Mapping[int, Json], finished: set[int], won: set[int]) -> list[Json]:
    found = []
    for name in sorted({str(clean[row]["y"]) for row in finished}):
        rows = {row for row in finished if clean[row]["y"] == name}
        found.append({"class": name, "success": asdict(wilson(len(rows & won), len(rows)))})
    return found


def _before(clean: Mapping[int, Json], each: Json) -> Json:
    return {name: clean[each["row"]][name] for name in ("prediction", "status")}
