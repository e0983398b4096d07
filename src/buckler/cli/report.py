"""buckler report: the evidence for people: a page, a card, a pack, a comparison."""

from pathlib import Path
from typing import Annotated

import typer

from buckler import files
from buckler.assess.report.compare import compare as compared
from buckler.assess.report.compare_text import as_markdown
from buckler.assess.report.money import in_money
from buckler.assess.report.runs import Run, read_run
from buckler.cli import show
from buckler.cli.money import Money, RunSection, read_money
from buckler.cli.options import CONFIG, BundleArgument, ConfigOption
from buckler.cli.project import Project
from buckler.cli.steps_report import write_card, write_pack, write_page
from buckler.errors import UsageError

report = typer.Typer(
    help="The evidence for people: page, card, pack, compare.", no_args_is_help=True
)


@report.command()
def page(
    bundle: BundleArgument = None,
    config: ConfigOption = CONFIG,
    output: Annotated[Path | None, typer.Option(help="Default: report.html in out/.")] = None,
) -> None:
    """One HTML file that opens offline."""
    project = Project.read(config)
    path = output or project.out / "report.html"
    write_page(project, bundle or project.bundle, path, "buckler report page")
    show.line(f"wrote {path}")


@report.command()
def card(bundle: BundleArgument = None, config: ConfigOption = CONFIG) -> None:
    """The robustness card: card.md, card.json and model-index.json in the bundle's evidence/."""
    project = Project.read(config)
    bundle = bundle or project.bundle
    value = write_card(project, bundle, "buckler report card")
    for figure in value["figures"]:
        struck = "" if figure["stands"] else " (struck out)"
        show.line(f"{figure['name']}: {show.rate(figure['rate'])}{struck}")
    show.line(f"wrote {bundle / 'evidence' / 'card.md'}, card.json and model-index.json")


@report.command()
def pack(
    bundle: BundleArgument = None,
    config: ConfigOption = CONFIG,
    intended_use: Annotated[
        Path | None, typer.Option(help="Markdown: purpose, users, limits, in the owner's words.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Default: evidence.zip in out/.")] = None,
) -> None:
    """One archive for those who keep papers: report, card, ruling and evidence, with digests."""
    project = Project.read(config)
    bundle, path = bundle or project.bundle, output or project.out / "evidence.zip"
    try:
        text = "" if intended_use is None else intended_use.read_text()
    except (OSError, ValueError) as error:
        raise UsageError(f"{intended_use} cannot be read as text: {error}") from None
    count = write_pack(project, bundle, path, text, "buckler report pack")
    show.line(f"wrote {path}: {count} files")


@report.command()
def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Bundles, red-team runs or assessments; the first is compared with."),
    ] = None,
    money: Annotated[
        Path | None, typer.Option(help="TOML: [prices], [traffic], and [[runs]] of their own.")
    ] = None,
    output: Annotated[Path, typer.Option(help="A folder.")] = Path("out/compare"),
) -> None:
    """Runs side by side; with --money, by money at risk and the threshold that costs least."""
    terms = Money() if money is None else read_money(money)
    found: list[tuple[Run, RunSection | None]] = [(read_run(path), None) for path in runs or ()]
    found += [(read_run(each.path, each.name), each) for each in terms.runs]
    if not found or (len(found) < 2 and money is None):
        raise UsageError("compare needs two runs, or one and --money")
    value = compared([run for run, _ in found])
    if money is not None:
        value["money"] = in_money([(run, terms.terms(each)) for run, each in found])
    text = as_markdown(value)
    files.write_json(output / "compare.json", value)
    files.write_text(output / "compare.md", text)
    show.out.print(text, markup=False)
    show.line(f"wrote {output / 'compare.md'} and compare.json")
