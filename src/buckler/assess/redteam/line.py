"""The line to the target: every row counted, written down, and cut off where it must be."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from buckler.assess.redteam.findings import said
from buckler.assess.redteam.journal import Journal, Json
from buckler.assess.redteam.subject import Subject
from buckler.errors import BudgetError, UsageError
from buckler.models import Counted
from buckler.protocols import Threat

Stop = Callable[[], bool]
"""Whether someone threw the stop switch."""


class Stopped(Exception):  # noqa: N818  an order, no error
    """The stop switch was thrown; nothing more was sent."""


class RowSpentError(BudgetError):
    """An attack asked for more than its share of queries for one row."""


class Line:
    """Asks the target, at most `limit` rows in all runs of this folder; each is in the audit.

    One line a row: at (time, UTC), n (queries spent so far, rows an endpoint had to be sent again
    included), attack, row, sha256 (of the input's float32 values), prediction, status (ACCEPTED,
    SUSPICIOUS or NO ANSWER).
    """

    def __init__(self, subject: Subject, audit: Journal, limit: int, stop: Stop) -> None:
        self.subject, self._audit, self._stop = subject, audit, stop
        self._before = int(audit.lines[-1]["n"]) if audit.lines else 0
        self._limit = limit
        self._counted = Counted(subject.model, limit=max(0, limit - self._before))
        self._sent = subject.meter.endpoint.sent if subject.meter else 0
        if subject.meter:
            subject.meter.limit = self._sent + max(0, limit - self._before)

    @property
    def spent(self) -> int:
        """Queries so far; rows that an endpoint had to be sent again count again."""
        meter = self.subject.meter
        sent = meter.endpoint.sent - self._sent if meter else 0
        return min(self._limit, self._before + max(self._counted.forwards, sent))

    @property
    def left(self) -> int:
        return self._limit - self.spent

    def ask(self, x: Tensor, attack: str, rows: Sequence[int]) -> Tensor:
        """Logits of x (m, ...). Raises: Stopped; BudgetError if fewer than m queries are left."""
        if self._stop():
            raise Stopped
        if len(x) > self.left:
            raise BudgetError(f"the budget of {self._limit} queries is spent: {self.left} are left")
        before = self.spent
        try:
            logits = self._counted(x)
        except BaseException:
            self._note(x, attack, rows, before, None)
            raise
        self._note(x, attack, rows, before, logits)
        return logits

    def _note(
        self, x: Tensor, attack: str, rows: Sequence[int], before: int, logits: Tensor | None
    ) -> None:
        again = self.spent - before - len(x)  # rows sent again before this answer
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        subject = self.subject
        answers: list[Json] = [{"prediction": None, "status": "NO ANSWER"}] * len(x)
        if logits is not None:
            answers = [said(each, subject.rejects, subject.spec) for each in logits.detach()]
        facts = zip(rows, hashes(x), answers, strict=True)
        self._audit.add(
            {
                "at": at,
                "n": before + max(0, again) + place,
                "attack": attack,
                "row": row,
                "sha256": digest,
                **answer,
            }
            for place, (row, digest, answer) in enumerate(facts, 1)
        )


class Trial:
    """The target as one attack on one row asks it; ends at the first winning point in the threat.

    A call that would pass the row's limit is answered as far as it goes, and then refused. What was
    asked before a run was cut off is answered from memory, in the same order, and not asked again.

    Raises (on call): Won; RowSpentError, BudgetError, Stopped.
    """

    def __init__(
        self,
        line: Line,
        attack: str,
        row: int,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        limit: int,
        memory: Journal,
    ) -> None:
        self._line, self._attack, self._row = line, attack, row
        self._x, self._y, self._threat = x, y, threat
        self._limit, self._memory = limit, memory
        self._known = list(memory.lines)
        self.asked = 0

    def __call__(self, points: Tensor) -> Tensor:
        if points.shape[1:] != self._x.shape[1:]:
            raise UsageError(
                f"an attack must ask about inputs of shape {tuple(self._x.shape[1:])}. "
                f"Got {tuple(points.shape[1:])}"
            )
        found = []
        for part in points.split(self._line.subject.chunk):
            room = self._limit - self.asked
            if not self._known:
                room = min(room, max(self._line.left, 0))
            now = part[:room]
            if len(now) or not len(points):
                found.append(self.ask(now))
                self._judge(now, found[-1])
            if len(now) < len(part):
                self._refuse()
        return torch.cat(found)

    def ask(self, points: Tensor) -> Tensor:
        """Logits, from memory where they stand there; not judged."""
        differentiated = points.requires_grad and torch.is_grad_enabled()
        digests = hashes(points)
        ahead = self._known[: len(points)]
        self.asked += len(points)
        if not differentiated and len(points) and [each["sha256"] for each in ahead] == digests:
            self._known = self._known[len(points) :]
            return torch.tensor([each["logits"] for each in ahead]).to(points)
        if self._known:  # another way than before: what is remembered is of no use
            self._known = []
            self._memory.clear()
        logits = self._line.ask(points, self._attack, [self._row] * len(points))
        if not differentiated:
            pairs = zip(digests, logits.tolist(), strict=True)
            self._memory.add({"sha256": digest, "logits": values} for digest, values in pairs)
        return logits

    def _judge(self, points: Tensor, logits: Tensor) -> None:
        many = torch.zeros(len(points), dtype=torch.int64)
        objective = self._threat.take(many).goal.objective(logits.detach(), self._y[many])
        for place in (objective > 0).nonzero()[:, 0].tolist():
            x_adv = points[place : place + 1].detach()
            if bool(self._threat.contains(self._x, x_adv).all()):
                raise Won(x_adv.clone(), logits[place : place + 1].detach().clone())

    def _refuse(self) -> None:
        if self.asked >= self._limit:
            raise RowSpentError(f"the {self._limit} queries of this row are spent")
        raise BudgetError("the budget of queries is spent")


class Won(Exception):  # noqa: N818  news, no error
    """A winning point inside the threat, x_adv (1, ...), and the logits of it (1, k)."""

    def __init__(self, x_adv: Tensor, logits: Tensor) -> None:
        super().__init__("won")
        self.x_adv, self.logits = x_adv, logits


def hashes(x: Tensor) -> list[str]:
    """sha256 of each row's float32 values."""
    rows = x.detach().cpu().float().contiguous()
    return [hashlib.sha256(row.numpy().tobytes()).hexdigest() for row in rows]


def stop_file(folder: Path) -> Stop:
    """The stop switch of a run: the file STOP in its folder."""
    return (folder / "STOP").exists
