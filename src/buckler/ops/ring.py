"""The last inputs, as little as is needed to count those near a new one; the oldest makes room."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from buckler.errors import UsageError
from buckler.ops.fingerprint import FINE, Bytes, Print

_FIRST: Final = 8  # inputs a ring has room for at first
_SPREAD: Final = 32  # cells that are compared before all are
_FACTS: Final = np.dtype([("whole", "u8"), ("number", "u4"), ("who", "i4"), ("run", "i4")])
_COMMON: Final = 4  # hashes that a link of a chain has in common
_SLOTS: Final = FINE  # of the table, for each input
_CUT: Final = np.uint64(25)  # 39 bits of a hash are kept, beside 24 of the input's number
_NUMBER: Final = (1 << 24) - 1


@dataclass(frozen=True)
class Near:
    """Which images are near: no cell differs by more than `radius` of 255 levels, or all but
    `spare` cells by no more than `trimmed`."""

    radius: int = 51
    trimmed: int = 44
    spare: int = 3

    def __post_init__(self) -> None:
        if not (1 <= self.trimmed <= self.radius <= 127 and 0 <= self.spare <= 20):
            raise UsageError(
                "near needs 1 <= trimmed <= radius <= 127 levels and 0 <= spare <= 20 cells. Got "
                f"trimmed={self.trimmed}, radius={self.radius}, spare={self.spare}"
            )

    def of(self, held: Bytes, cells: Bytes) -> NDArray[np.bool_]:
        """(n,) which of held (n, cells) are near; of a part of the cells, which may be."""
        apart = np.maximum(held, cells) - np.minimum(held, cells)
        near: NDArray[np.bool_] = (apart <= self.radius).all(1) | (
            (apart > self.trimmed).sum(1) <= self.spare
        )
        return near


@dataclass(frozen=True, eq=False)
class Found:
    """Earlier inputs.

    near: places of those whose cells are near.
    run: how many form a chain, most of whose fine hashes earlier links had.
    again: the very input is there.
    """

    near: NDArray[np.int64]
    run: int
    again: bool


class Ring:
    """Room for `size` inputs, which grows as they come. Fine hashes lie in a table in which the
    newer of two that collide stays."""

    def __init__(self, size: int, cells: int) -> None:
        self._size = size
        self._next = 0
        # In an order that spreads over the image, for the first look.
        self._order = np.argsort(np.arange(cells) * 0.6180339887 % 1, kind="stable")
        self._room = min(size, _FIRST)
        self._cells = np.empty((self._room, cells), np.uint8)
        self._facts = np.empty(self._room, _FACTS)
        self._table = np.full(_SLOTS * self._room, -1, np.int64)

    def __len__(self) -> int:
        return min(self._next, self._size)

    @property
    def nbytes(self) -> int:
        return self._cells.nbytes + self._facts.nbytes + self._table.nbytes

    def find(self, seen: Print, near: Near) -> Found:
        """What is here of an input."""
        held, cells = self._cells[: len(self)], seen.cells[self._order]
        places = np.flatnonzero(near.of(held[:, :_SPREAD], cells[:_SPREAD]))
        places = places[near.of(held[places], cells)]
        again = bool((self._facts["whole"][: len(self)] == np.uint64(seen.whole)).any())
        return Found(places, self._run(seen.fine), again)

    def add(self, seen: Print, who: int, found: Found) -> None:
        """Remember it; `found` is what `find` said of it."""
        if self._next >= self._room and self._room < self._size:
            self._grow()
        place, number = self._next % self._size, self._next & _NUMBER
        self._cells[place] = seen.cells[self._order]
        self._facts[place] = (seen.whole, number, who, found.run)
        self._keep((seen.fine >> _CUT).astype(np.int64) << 24 | number)
        self._next += 1

    def whose(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Whose inputs these are, as `add` was told."""
        who: NDArray[np.int64] = self._facts["who"][places].astype(np.int64)
        return who

    def _run(self, fine: NDArray[np.uint64]) -> int:
        """1 + the longest run of an input with _COMMON of the hashes, if most hashes are here.

        They need not all be one input's: who tries changes of one image and drops most of them
        (Square) sends inputs that are like the image, and each other's likes.
        """
        tags = (fine >> _CUT).astype(np.int64)
        entries = self._table[tags % len(self._table)]
        numbers, counts = np.unique(entries[entries >> 24 == tags] & _NUMBER, return_counts=True)
        if 2 * counts.sum() <= len(fine):
            return 0
        numbers = numbers[counts >= _COMMON]
        # All inputs since the first differ in their last 24 bits, as long as a ring is smaller.
        facts = self._facts[(self._next - ((self._next - numbers) & _NUMBER)) % self._size]
        runs = facts["run"][facts["number"] == numbers]
        return int(runs.max()) + 1 if len(runs) else 0

    def _keep(self, entries: NDArray[np.int64]) -> None:
        self._table[(entries >> 24) % len(self._table)] = entries

    def _grow(self) -> None:
        room = min(self._room * 5 // 4 + 1, self._size)
        cells, facts, table = self._cells, self._facts, self._table
        self._cells = np.empty((room, cells.shape[1]), np.uint8)
        self._facts = np.empty(room, _FACTS)
        self._cells[: self._room], self._facts[: self._room] = cells, facts
        self._table = np.full(_SLOTS * room, -1, np.int64)
        held = table[table >= 0]
        self._keep(held[np.argsort(held & _NUMBER)])  # the newer of two stays
        self._room = room
