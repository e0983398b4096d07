"""buckler certify: what is guaranteed."""

from buckler.cli import show
from buckler.cli.options import CONFIG, BundleArgument, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_certify import certify_bundle, say_certified


def certify(bundle: BundleArgument = None, config: ConfigOption = CONFIG) -> None:
    """Certify a sample of test rows: what is served, or, of plain answers, the smoothed members."""
    project = Project.read(config)
    bundle = bundle or project.bundle
    say_certified(certify_bundle(project, bundle))
    show.line(f"wrote {bundle / 'evidence' / 'certificates.json'}")
