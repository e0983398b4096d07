"""The queue under any order of events: one answer each, in order, never more than allowed."""

from concurrent.futures import Future

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from buckler.serve.judged import Judged, join
from buckler.serve.queue import Batch, Entry, Queue

from .tiny import accept

ROWS, BYTES, BATCH = 12, 40, 5  # a row is 4 bytes: the bytes end first
TRUE_ERRORS = ("failed", "expired", "hung", "stopped")


class QueueMachine(RuleBasedStateMachine):
    """The runner's part is played by rules: take, deliver, fail, hang (and answer late), drain."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Queue[Judged] = Queue(ROWS, BYTES)
        self.now = 0.0
        self.next = 0
        self.entries: list[Entry[Judged]] = []
        self.answered: list[int] = []
        self.hand: Batch[Judged] | None = None
        self.abandoned: list[Batch[Judged]] = []
        self.draining = False

    @rule(rows=st.integers(1, 9), lasts=st.sampled_from([1.0, 3.0, 100.0]))
    def submit(self, rows: int, lasts: float) -> None:
        if self.draining:
            return
        values = torch.arange(self.next, self.next + rows, dtype=torch.float32) / 4096
        entry: Entry[Judged] = Entry(values[:, None], self.now + lasts, Future())
        fits = self.queue.rows + rows <= ROWS and self.queue.nbytes + 4 * rows <= BYTES
        assert self.queue.fits(rows, entry.nbytes) == fits
        if not fits:
            return
        self.next += rows
        number = len(self.entries)
        self.entries.append(entry)
        entry.answer.add_done_callback(lambda _: self.answered.append(number))
        entry.answer.add_done_callback(lambda _: self.queue.remove(entry))
        self.queue.put(entry)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.entries))
        rows, was_here = self.queue.rows, id(entry) in self.queue._entries
        if entry.answer.cancel() and was_here:
            assert self.queue.rows == rows - len(entry.x), "its room is free at once"

    @rule(seconds=st.sampled_from([0.5, 2.0]))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        for entry in self.queue.expired(self.now):
            assert entry.until <= self.now
            entry.fail(RuntimeError("expired"))
        assert all(entry.until > self.now for entry in self.queue._entries.values())

    @precondition(lambda self: self.hand is None and len(self.queue))
    @rule()
    def take(self) -> None:
        first = next(iter(self.queue._entries.values()))
        self.hand = self.queue.take(BATCH)
        assert 1 <= len(self.hand) <= BATCH
        assert self.hand.pieces[0][0] is first
        for entry, rows in self.hand.pieces:
            assert not entry.answer.done(), "who gave up is not judged"
            assert rows == slice(0, len(entry.x)) or len(entry.x) > BATCH

    @precondition(lambda self: self.hand is not None)
    @rule()
    def deliver(self) -> None:
        assert self.hand is not None
        before = len(self.answered)
        self.hand.deliver(accept(self.hand.x()), join)
        fresh = self.answered[before:]
        assert fresh == sorted(fresh), "answers leave in the order of the requests"
        self.hand = None

    @precondition(lambda self: self.hand is not None)
    @rule()
    def fail(self) -> None:
        assert self.hand is not None
        for entry, _ in self.hand.pieces:
            entry.fail(RuntimeError("failed"))
        self.hand = None

    @precondition(lambda self: self.hand is not None)
    @rule()
    def hang(self) -> None:
        assert self.hand is not None
        for entry in (*(entry for entry, _ in self.hand.pieces), *self.queue.clear()):
            entry.fail(RuntimeError("hung"))
        self.abandoned.append(self.hand)
        self.hand = None

    @precondition(lambda self: self.abandoned)
    @rule()
    def answer_late(self) -> None:
        """A runner discards it; even one that does not must not answer anyone twice."""
        batch, before = self.abandoned.pop(), len(self.answered)
        batch.deliver(accept(batch.x()), join)
        assert len(self.answered) == before

    @rule()
    def drain(self) -> None:
        self.draining = True

    @invariant()
    def bounded_and_counted(self) -> None:
        inside = list(self.queue._entries.values())
        assert self.queue.rows == sum(len(entry.x) for entry in inside) <= ROWS
        assert self.queue.nbytes == sum(entry.nbytes for entry in inside) <= BYTES
        assert not any(entry.answer.done() for entry in inside)

    @invariant()
    def answered_at_most_once_and_rightly(self) -> None:
        assert len(self.answered) == len(set(self.answered))
        for entry in self.entries:
            if entry.answer.done() and not entry.answer.cancelled():
                _right(entry.answer, entry)

    def teardown(self) -> None:
        """Whatever happened, those who are left can be answered, and then all were."""
        while self.hand is not None or len(self.queue):
            if self.hand is None:
                self.hand = self.queue.take(BATCH)
            self.deliver()
        assert sorted(self.answered) == list(range(len(self.entries)))
        assert (self.queue.rows, self.queue.nbytes) == (0, 0)


def _right(answer: Future[Judged], entry: Entry[Judged]) -> None:
    """Batched = unbatched: the request's own rows, each as it would be alone."""
    if answer.exception() is not None:
        assert str(answer.exception()) in TRUE_ERRORS
        return
    alone = [accept(row[None]).verdicts[0] for row in entry.x]
    assert answer.result().verdicts == alone


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
)
