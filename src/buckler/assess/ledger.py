"""What happened to each row: the one source of every rate."""

import io
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from buckler import files
from buckler.errors import DataError
from buckler.stats import Rate, wilson


@dataclass(frozen=True)
class Ledger:
    """Columns of length n, one entry a row assessed.

    row: its index in the test split. y: the truth. prediction_* and accepted_*: the system's own
    answer before, and on the point that broke it (or the last point tried). broken_by: the attack
    for which an accepted wrong answer was found, "" if none. on_grid: still so when the point is
    written as a file. distance: of that point, in the threat's measure.
    """

    row: np.ndarray
    y: np.ndarray
    prediction_before: np.ndarray
    accepted_before: np.ndarray
    prediction_after: np.ndarray
    accepted_after: np.ndarray
    broken_by: np.ndarray
    on_grid: np.ndarray
    distance: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Right at first, whatever the status."""
        return np.asarray(self.prediction_before == self.y)

    @property
    def broken(self) -> np.ndarray:
        return np.asarray(self.broken_by != "")

    def rates(self) -> dict[str, Rate]:
        """Every rate with its interval.

        clean_accuracy: right / all. accepted_right: right and accepted / all. review_rate:
        SUSPICIOUS / all. success: rows right at first for which an accepted wrong answer was found
        / rows right at first. success_of_all: the same, with the rows wrong and accepted at first,
        / all. success_on_grid: as success, for points that can be written as a file.
        """
        n, right = len(self.row), int(self.right.sum())
        wrong_at_first = ~self.right & self.accepted_before
        found = {
            "clean_accuracy": wilson(right, n),
            "accepted_right": wilson(int((self.right & self.accepted_before).sum()), n),
            "review_rate": wilson(int((~self.accepted_before).sum()), n),
            "success_of_all": wilson(int((self.broken | wrong_at_first).sum()), n),
        }
        if right:
            found["success"] = wilson(int(self.broken.sum()), right)
            found["success_on_grid"] = wilson(int((self.broken & self.on_grid).sum()), right)
        return found

    def save(self, path: Path) -> None:
        stream = io.BytesIO()
        columns = {column.name: getattr(self, column.name) for column in fields(self)}
        np.savez_compressed(stream, **columns)
        files.write_bytes(path, stream.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Ledger":
        """Raises: DataError if the file is missing or is no ledger."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(**{column.name: stored[column.name] for column in fields(cls)})
        except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
            raise DataError(
                f"{path} cannot be read as a ledger ({error}): write it anew with buckler assess"
            ) from None
