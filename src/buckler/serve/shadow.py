"""Pairs: what the other bundle says of an input that was answered, and of golden rows."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Final

from torch import Tensor

from buckler.serve.arms import Arms, Beside, Served
from buckler.serve.golden import Golden
from buckler.serve.judged import Judged
from buckler.serve.refusal import RefusedError
from buckler.serve.tally import Said
from buckler.serve.watch import Seen

_WAIT_S: Final = 10.0
_BUSY_ROWS: Final = 8


class Shadow:
    """A watcher that has one row of each answered request scored by the bundle that did not answer
    it, as long as that client's pairs count. It gives way: while rows wait for an answer, pairs are
    dropped, and counted."""

    def __init__(self, arms: Arms) -> None:
        self._arms = arms

    def saw(self, seen: Sequence[Seen]) -> None:
        for each in seen:
            beside = self._arms.beside
            if beside is not None and beside.tally.has_room(each.key_id):
                self._score(beside, each)

    def _score(self, beside: Beside, seen: Seen) -> None:
        stable = self._arms.stable
        answered = said(seen.judged)
        by_candidate = seen.judged.verdicts[0].bundle == beside.served.digest
        other = stable if by_candidate else beside.served
        if self._arms.rows_waiting > _BUSY_ROWS:
            beside.tally.dropped()
            return

        def pair(judged: Judged) -> None:
            both = (said(judged), answered) if by_candidate else (answered, said(judged))
            beside.tally.paired(seen.key_id, *both)

        ask(beside, other, seen.x[:1], pair)


class Probes:
    """A thread that sends golden rows through both bundles, all the time.

    Args:
        per_s: rows a second.
    """

    def __init__(self, arms: Arms, beside: Beside, golden: Golden, per_s: float) -> None:
        self._arms = arms
        self._beside = beside
        self._golden = golden
        self._every_s = 1 / per_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="buckler-probes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def probe(self, row: int) -> bool:
        """Send a golden row through both. False if one of them gave no answer."""
        x = self._golden.x[row : row + 1]
        answers: list[Said] = []
        for served in (self._arms.stable, self._beside.served):
            done = ask(self._beside, served, x, lambda judged: answers.append(said(judged)))
            if done is not None:
                with contextlib.suppress(Exception, CancelledError):
                    done.result(_WAIT_S)
        if len(answers) < 2:
            return False
        truth, attack = self._golden.truth[row], self._golden.attack[row]
        self._beside.tally.probed(row, truth, attack, answers[0], answers[1])
        return True

    def _run(self) -> None:
        row = 0
        while not self._stop.wait(self._every_s):
            if self._arms.rows_waiting <= _BUSY_ROWS and self.probe(row):
                row = (row + 1) % len(self._golden)


def ask(
    beside: Beside, served: Served, x: Tensor, then: Callable[[Judged], None]
) -> Future[None] | None:
    """Ask a bundle off the path; `then` is told its answer, on the thread that judged. None: it
    cannot be asked now. Errors and time of the candidate count."""
    mine = served is beside.served
    began = time.monotonic()
    told: Future[None] = Future()

    def done(answer: Future[Judged]) -> None:
        failed = answer.cancelled() or answer.exception() is not None
        if mine:
            beside.tally.shadowed(time.monotonic() - began, failed=failed)
        if not failed:
            then(answer.result())
        told.set_result(None)

    try:
        served.runner.submit(x, began + _WAIT_S).add_done_callback(done)
    except RefusedError as error:
        if mine and error.status >= 500:
            beside.tally.shadowed(0.0, failed=True)
        beside.tally.dropped()
        return None
    return told


def said(judged: Judged) -> Said:
    """Of the first row."""
    verdict = judged.verdicts[0]
    return Said(verdict.status == "SUSPICIOUS", verdict.prediction)
