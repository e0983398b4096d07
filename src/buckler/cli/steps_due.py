"""What has been seen since the present bundle was made: what may owe a retrain."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from buckler import files
from buckler.assess.redteam.plan import runs
from buckler.cli.golden import NAME, held, losses, read_golden
from buckler.cli.opened import opened_store
from buckler.cli.project import Project, load_guard
from buckler.cli.reviewed import at_the_door
from buckler.ops.owed import Signs
from buckler.ops.retraining import GoldenLoss
from buckler.ops.sampling import Estimate


def signs(
    project: Project, bundle: Path, export: Path | None, store: str | None, inputs: str | None
) -> Signs:
    """What alarms, the golden set, the red team and reviewers say since `bundle` was written.

    What cannot be looked at (no store, no export, no run) is no sign.
    """
    guard = load_guard(project, bundle)
    since = (bundle / "bundle.toml").stat().st_mtime
    golden: tuple[GoldenLoss, ...] = ()
    if (project.out / f"{NAME}.json").exists():
        fixed = read_golden(project, project.out)
        golden = tuple(losses(fixed, fixed.held, held(guard, fixed)).values())
    confirmed = 0
    if export is not None:
        entered = at_the_door(project, export, since).entered
        confirmed = sum(row.outcome == "adversarial" for row in entered)
    return Signs(
        pages=() if store is None else _pages(store, inputs, since),
        golden=golden,
        redteam=_redteam(project, since),
        confirmed=confirmed,
        reviewed=None if store is None else _reviewed(store, inputs, since),
    )


def _pages(store: str, inputs: str | None, since: float) -> tuple[str, ...]:
    """Titles of the alerts that paged since then, the last one last."""
    from buckler.store.alerts import listed

    with opened_store(store, inputs) as opened:
        paged = [alert for alert in listed(opened, limit=500) if alert.finding.tier == "page"]
    found = [alert for alert in paged if alert.last >= since]
    return tuple(a.finding.title for a in sorted(found, key=lambda alert: alert.last))


def _reviewed(store: str, inputs: str | None, since: float) -> Estimate | None:
    from buckler.store.report import stats

    with opened_store(store, inputs) as opened:
        return stats(opened, time.time(), since).machine


def _redteam(project: Project, since: float) -> tuple[float, float, float] | None:
    """What the newest run since then says against the one before it."""
    for folder in runs(project.out / "redteam"):
        if not (folder / "report.json").exists():
            continue
        report: Any = files.read_json(folder / "report.json")
        if datetime.fromisoformat(report["when"]).timestamp() < since:
            continue
        gap = (report["since"] or {}).get("difference")
        if gap is not None:
            return gap["value"], gap["low"], gap["high"]
    return None
