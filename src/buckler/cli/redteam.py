"""buckler redteam: what can outsiders do to what runs?"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, cast, get_args

import typer
from torch import nn

from buckler import files
from buckler.assess.redteam import Plan, Subject, endpoint, read_finding
from buckler.assess.redteam import redteam as attack_from_outside
from buckler.assess.redteam import replay as send_again
from buckler.assess.redteam.line import Stop
from buckler.assess.redteam.page import rate_words, since_words, threat_words
from buckler.assess.redteam.plan import run_folder
from buckler.assess.redteam.since import check_since
from buckler.attacks import suites
from buckler.cli import show
from buckler.cli.config import RedteamSection
from buckler.cli.options import CONFIG, ConfigOption
from buckler.cli.posting import tell
from buckler.cli.project import Project, load_guard
from buckler.errors import UsageError
from buckler.guard import load_bundle
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier, check_classifier, open_model
from buckler.protocols import Threat
from buckler.threats import LpBall, PixelBudget
from buckler.threats.lp import Norm

_GONE = 1  # exit code of a replay that no longer fools the target


def redteam(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A URL, a bundle folder or a model file; default: the configured model."
        ),
    ] = None,
    config: ConfigOption = CONFIG,
    suite: Annotated[str | None, typer.Option(help="A named set of attacks.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Test rows to attack.")] = None,
    queries: Annotated[int | None, typer.Option(min=1, help="In all, at most.")] = None,
    per_row: Annotated[
        int | None, typer.Option(min=0, help="Of one attack on one row; 0: an equal share.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Rows a second to an endpoint; 0: no limit.")
    ] = None,
    eps: Annotated[
        float | None, typer.Option(help="Radius in input units; for l0, the number of pixels.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="linf, l2, l1 or l0 (pixels).")] = None,
    out: Annotated[Path | None, typer.Option(help="Default: redteam/ in the output.")] = None,
    since: Annotated[Path | None, typer.Option(help="The run to compare with.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Send this finding's files again.")] = None,
    post: Annotated[
        str | None, typer.Option(help="Tell this gateway's alerts, and the bundle's evidence.")
    ] = None,
) -> None:
    """Attack an endpoint, a bundle or a model from outside, within a budget of queries.

    Only loopback and the hosts that buckler.toml lists are attacked. A file STOP in the run's
    folder, or Ctrl-C, ends a run after the present call; the same command goes on. With --replay:
    exit code 0 if the finding still works, 1 if not.
    """
    if replay is not None:
        _replay(replay, target, config)
        return
    project = Project.read(config)
    given = {"suite": suite, "rows": rows, "queries": queries, "per_row": per_row, "rate": rate}
    section = project.config.redteam.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    spec = project.data.spec
    subject = _subject(project, target, spec, section)
    plan = _plan(project, subject, section, _threat(project, norm, eps))
    if since is not None:
        check_since(since, plan.settings())
    out = out or project.out / "redteam"
    show.line(f"run {run_folder(out, plan.settings())}: a file STOP there, or Ctrl-C, ends it")
    with _switch() as stop, show.bar(f"red team: {section.suite}") as progress:
        folder = attack_from_outside(plan, out, since=since, stop=stop, progress=progress)
    report = files.read_json(folder / "report.json")
    _say(report, folder)
    if post is not None:
        tell(report, Path(target) if target and _is_bundle(target) else None, post)


def _plan(project: Project, subject: Subject, section: RedteamSection, threat: Threat) -> Plan:
    x, y, rows = project.data["test"].sample(section.rows, section.seed)
    facts: dict[str, Any] = {
        "subject": subject,
        "threat": threat,
        "x": x,
        "y": y,
        "rows": rows,
        "data": project.data.digest(),
        "suite_name": section.suite,
        "queries": section.queries,
        "per_row": section.per_row,
        "rate": section.rate,
        "seed": section.seed,
    }
    norm = threat.norm if isinstance(threat, LpBall) else "l0"
    made = partial(suites.by_name, section.suite, norm=norm, box=project.data.spec.box)
    first = Plan(**facts, suite=made())
    return Plan(**facts, suite=made(queries=first.share))


def _threat(project: Project, norm: str | None, eps: float | None) -> Threat:
    box = project.data.spec.box
    norm = norm or project.config.threat.norm
    if norm == "l0":
        pixels = 1.0 if eps is None else eps
        if pixels % 1 != 0:  # so are NaN and infinity
            raise UsageError(f"with --norm l0, --eps is a whole number of pixels. Got {pixels:g}")
        return PixelBudget(int(pixels), box)
    if norm not in get_args(Norm):
        raise UsageError(f"--norm must be one of {', '.join(get_args(Norm))} and l0. Got {norm!r}")
    return LpBall(cast(Norm, norm), project.config.threat.eps if eps is None else eps, box)


def _subject(
    project: Project | None, target: str | None, spec: InputSpec, section: RedteamSection
) -> Subject:
    """What `target` names; None: the project's own model, file or endpoint."""
    own = project.config.model if project else None
    target = target or (own.url or own.source if own else "")
    if target.startswith(("http://", "https://")):
        return endpoint(target, spec, rate=section.rate, hosts=section.hosts)
    if _is_bundle(target):
        guard = load_guard(project, Path(target)) if project else load_bundle(Path(target))
        if (guard.spec.shape, guard.spec.class_names) != (spec.shape, spec.class_names):
            raise UsageError(
                f"the bundle {target} takes {guard.spec.shape} and knows {guard.spec.class_names}: "
                f"the data have {spec.shape} and {spec.class_names}"
            )
        return Subject(target, guard.digest, guard.attack_view(), spec, rejects=True)
    if project is not None and own is not None and target == own.source:
        model = project.classifier()
        check_classifier(model, project.data["test"].x[:8], spec.classes)
        if isinstance(model, nn.Module):
            model = TorchClassifier(model)
        return Subject(target, project.inputs_of("redteam", project.config.data), model, spec)
    if Path(target).is_file():
        return Subject(target, files.sha256(Path(target)), open_model(target, spec), spec)
    raise UsageError(
        f"a target is a URL, a bundle folder, or a model's file. Got {target!r}, which is none: "
        "check the path, or name the buckler.toml it stands in with --config"
    )


def _is_bundle(target: str) -> bool:
    return (Path(target) / "bundle.toml").exists()


def _replay(folder: Path, target: str | None, config: Path) -> None:
    value, spec, _ = read_finding(folder)
    project = Project.read(config) if config.exists() else None
    section = project.config.redteam if project else RedteamSection()
    subject = _subject(project, target or str(value["target"]), spec, section)
    found = send_again(subject.model, subject.rejects, folder)
    verb = "still works" if found.works else "no longer works"
    words = [
        f"{each['prediction']} ({each['status']})" for each in (found.clean, found.adversarial)
    ]
    show.line(f"{folder.name} {verb} on {subject.source}", "red" if found.works else "green")
    show.line(f"truth {value['y']}; clean {words[0]}; adversarial {words[1]}")
    show.line(f"when found: {value['after']['prediction']} ({value['after']['status']})")
    if not found.works:
        raise typer.Exit(_GONE)


def _say(value: dict[str, Any], folder: Path) -> None:
    if value["ended"] == "stopped":
        show.line(
            f"stopped: remove {folder / 'STOP'} if it is there; the same command goes on", "yellow"
        )
    n, threat = value["rows"]["finished"], threat_words(value["threat"])
    show.line(
        f"success {rate_words(value.get('success'))} of {n} rows at {threat}, "
        f"{len(value['findings'])} findings, {value['spent']} of {value['queries']} queries; "
        f"{value['ended']}"
    )
    show.line(since_words(value["since"]))
    show.line(f"wrote {folder / 'report.md'}, report.html and findings/")


@contextmanager
def _switch() -> Iterator[Stop]:
    """Ctrl-C ends the run after the present call; a second one ends it at once."""
    thrown: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def throw(number: int, _: FrameType | None) -> None:
        thrown.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, throw)
    try:
        yield lambda: bool(thrown)
    finally:
        signal.signal(signal.SIGINT, before)
