"""What waits to be judged: in order, bounded in rows and bytes, and never past its deadline.

It knows neither threads nor clocks: its caller holds a lock and says what time it is.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor


class Sliceable(Protocol):
    """What a judge answers: something for each row, which can be cut by rows."""

    def __len__(self) -> int: ...
    def take(self, rows: slice) -> Self: ...


R = TypeVar("R", bound=Sliceable)
T_contra = TypeVar("T_contra", contravariant=True)
_SPARE: Final = 64


class Answer(Protocol[T_contra]):
    """Where an answer goes: of a concurrent Future, what the queue needs of it."""

    def done(self) -> bool: ...
    def set_running_or_notify_cancel(self) -> bool: ...
    def set_result(self, result: T_contra) -> None: ...
    def set_exception(self, error: BaseException) -> None: ...


@dataclass(eq=False)
class Entry(Generic[R]):
    """One request: x (n, ...), n >= 1, and who waits for its answer until when.

    The answer is there once all its rows are; `taken` of them are in batches so far.
    """

    x: Tensor
    until: float
    answer: Answer[R]
    taken: int = 0
    parts: list[R] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows: int = self.x.shape[0]
        self.nbytes: int = self.x.nbytes
        if not self.rows:
            raise ValueError("a request must have at least 1 row. Got none")

    def fail(self, error: BaseException) -> None:
        """The one answer, unless it was given or nobody waits any more."""
        if not self.answer.done() and self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(error)

    def succeed(self, result: R) -> None:
        if not self.answer.done() and self.answer.set_running_or_notify_cancel():
            self.answer.set_result(result)


@dataclass(frozen=True, eq=False)
class Batch(Generic[R]):
    """Rows that are judged together: of each entry a slice."""

    pieces: tuple[tuple[Entry[R], slice], ...]

    def __len__(self) -> int:
        return sum(rows.stop - rows.start for _, rows in self.pieces)

    def x(self) -> Tensor:
        """The rows as one tensor, which may share memory with an entry's."""
        parts = [entry.x[rows] for entry, rows in self.pieces]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def deliver(self, result: R, join: Callable[[Sequence[R]], R]) -> None:
        """Give each entry its rows; who has them all is answered, in order."""
        start = 0
        for entry, rows in self.pieces:
            stop = start + rows.stop - rows.start
            entry.parts.append(result.take(slice(start, stop)))
            start = stop
            if rows.stop == entry.rows:
                entry.succeed(entry.parts[0] if len(entry.parts) == 1 else join(entry.parts))


class Queue(Generic[R]):
    """First come, first served.

    An entry counts whole, rows and bytes, until its last row is in a batch.

    Args:
        max_rows, max_bytes: of all entries together; one that does not fit is not taken.
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._entries: OrderedDict[int, Entry[R]] = OrderedDict()
        # Deadlines and whose; of those that left, too, until they come up or are the most.
        self._due: list[tuple[float, int]] = []
        self.rows = 0
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def fits(self, rows: int, nbytes: int) -> bool:
        return self.rows + rows <= self._max_rows and self.nbytes + nbytes <= self._max_bytes

    def put(self, entry: Entry[R]) -> None:
        """Only if it fits."""
        assert self.fits(entry.rows, entry.nbytes)
        self._entries[id(entry)] = entry
        heapq.heappush(self._due, (entry.until, id(entry)))
        if len(self._due) > 2 * len(self._entries) + _SPARE:
            self._due = [(waits.until, name) for name, waits in self._entries.items()]
            heapq.heapify(self._due)
        self.rows += entry.rows
        self.nbytes += entry.nbytes

    def remove(self, entry: Entry[R]) -> None:
        """Free its room now; nothing if it is not here."""
        if self._entries.pop(id(entry), None) is not None:
            self.rows -= entry.rows
            self.nbytes -= entry.nbytes

    def expired(self, now: float) -> list[Entry[R]]:
        """Those past their deadline, which leave."""
        late = []
        while self._due and self._due[0][0] <= now:
            _, name = heapq.heappop(self._due)
            entry = self._entries.get(name)
            if entry is not None and entry.until <= now:  # a name may have gone to another
                self.remove(entry)
                late.append(entry)
        return late

    def clear(self) -> list[Entry[R]]:
        """All, which leave."""
        left = list(self._entries.values())
        self._entries.clear()
        self.rows = self.nbytes = 0
        return left

    def take(self, most: int) -> Batch[R]:
        """The next rows, up to `most`.

        Only an entry of more than `most` rows is cut: each other one is judged in one go.
        """
        pieces: list[tuple[Entry[R], slice]] = []
        room = most
        while self._entries and room:
            entry = next(iter(self._entries.values()))
            left = entry.rows - entry.taken
            if left > room and entry.rows <= most:
                break
            rows = slice(entry.taken, entry.taken + min(left, room))
            pieces.append((entry, rows))
            room -= rows.stop - rows.start
            entry.taken = rows.stop
            if entry.taken < entry.rows:
                break
            self.remove(entry)
        return Batch(tuple(pieces))
