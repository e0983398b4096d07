"""Reports of a bundle's evidence for people: the page."""

from pathlib import Path

import tomli_w

from buckler.assess.report import Evidence, write_report
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
