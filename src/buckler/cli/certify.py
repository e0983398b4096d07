"""buckler certify: what is guaranteed."""

from buckler.cli import show
from buckler.cli.options import CONFIG, BundleArgument, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_bundle import certify_bundle


def certify(bundle: BundleArgument = None, config: ConfigOption = CONFIG) -> None:
    """Certify a sample of test rows by randomized smoothing."""
    project = Project.read(config)
    bundle = bundle or project.bundle
    say_certified(certify_bundle(project, bundle))
    show.line(f"wrote {bundle / 'evidence' / 'certificates.json'}")


def say_certified(value: dict[str, object]) -> None:
    rows = value["certificates"]
    assert isinstance(rows, list)
    radii = sorted(row["radius"] if row["label"] == row["y"] else 0.0 for row in rows)
    right = sum(row["label"] == row["y"] for row in rows)
    show.line(f"{value['sentence']}")
    show.line(
        f"{len(rows)} rows: {right} certified right, {value['abstained']} abstained; median "
        f"certified L2 radius {radii[len(radii) // 2]:.3f} (0 where abstained or wrong)"
    )
