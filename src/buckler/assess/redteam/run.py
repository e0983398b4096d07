"""One red-team run: row by row, attack by attack, within its budget, and resumable.

Row by row, so that each query belongs to one row, and that the rows all attacks have finished are
a random sample however early the run ends.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

import torch

from buckler import files
from buckler.assess.redteam.findings import (
    Finding,
    as_file,
    folder_name,
    is_file,
    said,
    write_finding,
)
from buckler.assess.redteam.ids import family
from buckler.assess.redteam.journal import Journal
from buckler.assess.redteam.line import (
    Line,
    RowSpentError,
    Stop,
    Stopped,
    Trial,
    Won,
    stop_file,
)
from buckler.assess.redteam.plan import Plan, run_folder
from buckler.assess.redteam.report import write_reports
from buckler.errors import BucklerError, BudgetError, DataError, UsageError
from buckler.guard.bundle import versions
from buckler.protocols import Attack, Progress

Json = dict[str, Any]
CLEAN = "clean"  # in the place of an attack's name: x itself


def redteam(
    plan: Plan,
    out: Path,
    *,
    since: Path | None = None,
    stop: Stop = lambda: False,
    progress: Progress | None = None,
) -> Path:
    """Attack the target; returns the run's folder, whose report.json says how it ended.

    The same settings go on where an unfinished run of them was cut off: no query is asked twice.

    Args:
        out: its folder `runs` holds one folder a run.
        since: the run to compare with; default: the last one of the same target and threat.
        stop: looked at before each call, beside the file STOP in the run's folder.
        progress: called with (attacks on rows finished, all).

    Raises: UsageError for an attack the target or the threat does not fit, or an endpoint that
        fails; what was found until then is kept and reported.
    """
    folder = run_folder(out, plan.settings())
    switch = stop_file(folder)
    with (
        Journal(folder / "audit.jsonl") as audit,
        Journal(folder / "state.jsonl") as state,
        Journal(folder / "pending.jsonl") as pending,
    ):
        line = Line(plan.subject, audit, plan.queries, lambda: stop() or switch())
        run = _Run(plan, folder, line, state, pending)
        started, trouble = time.perf_counter(), None
        try:
            ended = run.go(progress)
        except BucklerError as error:
            trouble, ended = error, f"error: {error}"
        clock = {"seconds": round(run.seconds_before + time.perf_counter() - started, 2)}
        facts = {"ended": ended, "spent": line.spent, "digest": plan.subject.digest, **clock}
        facts["decisions"] = plan.subject.decisions
    write_reports(folder, plan.subject.spec, facts, since)
    if trouble is not None:
        raise trouble
    return folder


class _Run:
    """The rows and attacks done so far, in memory as in state.jsonl."""

    def __init__(
        self, plan: Plan, folder: Path, line: Line, state: Journal, pending: Journal
    ) -> None:
        self.plan, self.folder, self.line = plan, folder, line
        self.state, self.pending = state, pending
        self.done = {(str(each["attack"]), int(each["row"])): each for each in state.lines}
        self.digests = {each["digest"] for each in state.lines if each["digest"]}
        self.seconds_before = _seconds(folder)
        self.facts = {"versions": versions()}

    def go(self, progress: Progress | None) -> str:
        """How it ended: "done", "stopped" or "budget spent"."""
        attacks = self.plan.attacks
        try:
            self._clean()
            right = [place for place in range(len(self.plan.x)) if self._right(place)]
            if not right:
                raise DataError(
                    f"{self.plan.subject.source} gets 0 of {len(self.plan.x)} rows right, so there "
                    "is nothing to attack: do the labels follow the order of its classes?"
                )
            pairs = [(place, attack) for place in right for attack in attacks]
            for count, (place, attack) in enumerate(pairs):
                if (attack.name, self._row(place)) not in self.done:
                    self._one(place, attack)
                if progress is not None:
                    progress(count + 1, len(pairs))
        except Stopped:
            return "stopped"
        except BudgetError:
            return "budget spent"
        return "done"

    def _row(self, place: int) -> int:
        return int(self.plan.rows[place])

    def _right(self, place: int) -> bool:
        answer = self.done[CLEAN, self._row(place)]
        spec = self.plan.subject.spec
        return bool(answer["prediction"] == spec.class_names[int(self.plan.y[place])])

    def _clean(self) -> None:
        """Ask about every row as it is; those it gets wrong need no attack."""
        places = range(len(self.plan.x))
        todo = [place for place in places if (CLEAN, self._row(place)) not in self.done]
        size = self.plan.subject.chunk
        for start in range(0, len(todo), size):
            part = todo[start : start + size]
            rows = [self._row(place) for place in part]
            with torch.no_grad():
                logits = self.line.ask(self.plan.x[part], CLEAN, rows)
            spec, rejects = self.plan.subject.spec, self.plan.subject.rejects
            if logits.shape != (len(part), spec.classes + rejects):
                raise UsageError(
                    f"{self.plan.subject.source} must answer logits of shape "
                    f"({len(part)}, {spec.classes + rejects}). Got {tuple(logits.shape)}"
                )
            answers = [said(each, rejects, spec) for each in logits]
            self._write(
                {"attack": CLEAN, "row": row, "y": self._truth(place), **answer}
                for row, place, answer in zip(rows, part, answers, strict=True)
            )

    def _one(self, place: int, attack: Attack) -> None:
        """One attack on one row, to its end; Stopped and BudgetError leave it unfinished."""
        plan, row = self.plan, self._row(place)
        x, y = plan.x[place : place + 1], plan.y[place : place + 1]
        aim = plan.aim_of(attack, place)
        trial = Trial(self.line, attack.name, row, x, y, aim, plan.share, self.pending)
        facts: Json = {"attack": attack.name, "row": row, "y": self._truth(place), "won": False}
        try:
            attack(
                trial, x.clone(), y.clone(), aim, seed=plan.seed, rows=plan.rows[place : place + 1]
            )
        except RowSpentError:
            pass
        except Won as win:
            facts = {**facts, "won": True, "queries": trial.asked}
            facts.update(self._found(place, attack, trial, win))
        self._write([{"queries": trial.asked, **facts}])
        self.pending.clear()

    def _found(self, place: int, attack: Attack, trial: Trial, win: Won) -> Json:
        """Ask whether a file of it wins too, and write the finding."""
        plan, spec, queries = self.plan, self.plan.subject.spec, trial.asked
        x, aim = plan.x[place : place + 1], plan.aim_of(attack, place)
        rejects = plan.subject.rejects
        after, filed, wins = said(win.logits[0], rejects, spec), None, None
        if is_file(spec):
            filed = as_file(spec, aim, x, win.x_adv)
            with contextlib.suppress(BudgetError), torch.no_grad():
                logits = win.logits if bool((filed == win.x_adv).all()) else trial.ask(filed)
                wins = bool(aim.goal.objective(logits, plan.y[place : place + 1]) > 0)
                wins = wins and bool(aim.contains(x, filed).all())
                after = said(logits[0], rejects, spec) if wins else after
        before = {
            name: self.done[CLEAN, self._row(place)][name] for name in ("prediction", "status")
        }
        point = filed if wins and filed is not None else win.x_adv
        finding = Finding(
            row=self._row(place),
            y=int(plan.y[place]),
            attack=attack.name,
            parameters=repr(attack),
            family=family(attack),
            seed=plan.seed,
            x=x,
            x_adv=win.x_adv,
            before=before,
            after=after,
            distance=float(aim.distance(x, point)[0]),
            queries=queries,
            filed=filed,
            as_file=wins,
        )
        facts = {"target": plan.subject.source, "digest": plan.subject.digest, **self.facts}
        write_finding(finding, self.folder / "findings" / finding.name, spec, aim, facts)
        return {
            "distance": finding.distance,
            "as_file": wins,
            "after": after,
            "finding": f"findings/{folder_name(finding.row, attack.name)}",
        }

    def _truth(self, place: int) -> str:
        return self.plan.subject.spec.class_names[int(self.plan.y[place])]

    def _write(self, lines: Any) -> None:
        """To the state, once it is sure that all of it is about one target."""
        digest = self.plan.subject.digest
        lines = [{**each, "digest": digest} for each in lines]
        if digest and self.digests - {digest}:
            raise UsageError(
                f"{self.plan.subject.source} answers from the bundle {digest[:12]} now, and the "
                f"run {self.folder} began on {min(self.digests)[:12]}: move that folder away to "
                "begin anew"
            )
        self.digests |= {digest} - {""}
        self.state.add(lines, durable=True)
        self.done.update({(each["attack"], each["row"]): each for each in lines})


def _seconds(folder: Path) -> float:
    path = folder / "report.json"
    return float(str(files.read_json(path)["seconds"])) if path.exists() else 0.0
