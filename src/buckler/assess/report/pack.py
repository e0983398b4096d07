"""The evidence pack of one version of a model: one archive that says what is in it, byte for byte.

For those who must keep papers: what it is for, what was measured and ruled, what was not assessed,
and every file of evidence with its digest. Weights and data stay where they are.
"""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any, Final

from buckler import files
from buckler.errors import DataError

Json = dict[str, Any]
INDEX: Final = "INDEX.md"
_WHEN: Final = (1980, 1, 1, 0, 0, 0)  # the same evidence makes the same archive
_TOLD: Final = {
    "report.html": "everything, for people",
    "card.md": "the robustness card",
    "ruling.json": "the ruling, and the policy it was held against",
    "comparison.json": "every system under static and adaptive attackers",
    "battery.json": "whether the evaluation is to be believed",
    "certificates.json": "what is proved, row by row",
    "ledger.npz": "what happened to each row",
    "bundle.toml": "the bundle's manifest: members, thresholds, digests",
    "buckler.toml": "the settings of the run",
    "intended-use.md": "what the model is for, in its owner's words",
}


def pack(bundle: Path, page: Path, config: str, card: Json, intended_use: str, path: Path) -> int:
    """Write the archive and return how many files it holds.

    Args:
        page: the report. config: the settings, TOML. card: as `report.card.card` makes it.
        intended_use: Markdown: the purpose, the users, the limits as the owner states them.

    Raises: DataError if the bundle has no ruling or the report is missing.
    """
    evidence = bundle / "evidence"
    for needed, verb in ((evidence / "ruling.json", "check"), (page, "report page")):
        if not needed.exists():
            raise DataError(f"{needed} is missing: run buckler {verb} on this bundle")
    contents = {
        "report.html": page.read_bytes(),
        "bundle.toml": (bundle / "bundle.toml").read_bytes(),
        "buckler.toml": config.encode(),
        "intended-use.md": intended_use.encode(),
    }
    for found in sorted(evidence.iterdir()):
        contents[f"evidence/{found.name}"] = found.read_bytes()
    contents[INDEX] = _index(card, intended_use, contents).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _WHEN), content, zipfile.ZIP_DEFLATED)
    files.write_bytes(path, stream.getvalue())
    return len(contents)


def _index(card: Json, intended_use: str, contents: dict[str, bytes]) -> str:
    said = {True: "passed", False: "NOT passed", None: "not ruled on"}[card["passed"]]
    lines = [
        f"# Evidence pack: {card['name']}, bundle {card['digest'][:12]}",
        "",
        f"Deployment check: {said}. Assessed on {card['rows']} rows; buckler "
        f"{card['versions'].get('buckler', '')}; {card['hardware']}.",
        "",
        "## Intended use",
        "",
        intended_use.strip() or "Not stated by its owner: this pack is not complete.",
        "",
        "## Figures",
        "",
        *(_figure(figure) for figure in card["figures"]),
        "",
        "## Not assessed",
        "",
        *(f"- {line}" for line in card["not_assessed"]),
        "",
        "## Files",
        "",
        "| file | what it tells | sha256 |",
        "|---|---|---|",
    ]
    for name, content in contents.items():
        told = _TOLD.get(Path(name).name, "")
        lines.append(f"| {name} | {told} | {hashlib.sha256(content).hexdigest()} |")
    return "\n".join(lines) + "\n"


def _figure(figure: Json) -> str:
    rate = figure["rate"]
    value = f"{100 * rate['value']:.1f} %"
    shown = value if figure["stands"] else f"~~{value}~~ (struck out)"
    interval = f"{100 * rate['low']:.1f} to {100 * rate['high']:.1f} %, n = {rate['n']}"
    return f"- {figure['name']}: {shown} ({interval})"
