"""Reports of a bundle's evidence for people: the page, the card."""

from pathlib import Path
from typing import Any

import tomli_w

from buckler import files
from buckler.assess.report import Evidence, write_report
from buckler.assess.report.card import card, model_index
from buckler.assess.report.card_text import as_markdown
from buckler.assess.report.facts import gather
from buckler.assess.report.pack import pack
from buckler.cli.project import Project


def evidence_of(project: Project, bundle: Path, command: str) -> Evidence:
    """Where the files of a report lie, and what is told of them."""
    spec = project.data.spec
    return Evidence(
        name=project.data.name,
        command=command,
        class_names=spec.class_names,
        box=spec.box,
        shape=spec.shape,
        output=project.out,
        bundle=bundle,
        config=tomli_w.dumps(project.config.model_dump(mode="json", exclude_none=True)),
    )


def write_page(project: Project, bundle: Path, path: Path, command: str) -> Path:
    write_report(evidence_of(project, bundle, command), path)
    return path


def write_card(project: Project, bundle: Path, command: str) -> dict[str, Any]:
    """evidence/card.md, card.json and model-index.json."""
    evidence = evidence_of(project, bundle, command)
    value, folder = card(evidence, gather(evidence)), bundle / "evidence"
    files.write_json(folder / "card.json", value)
    files.write_json(folder / "model-index.json", model_index(value))
    files.write_text(folder / "card.md", as_markdown(value))
    return value


def write_pack(project: Project, bundle: Path, path: Path, intended_use: str, command: str) -> int:
    """Page and card anew, and both with all the evidence in one archive: how many files."""
    value = write_card(project, bundle, command)
    page = write_page(project, bundle, project.out / "report.html", command)
    config = evidence_of(project, bundle, command).config
    return pack(bundle, page, config, value, intended_use, path)
