"""What a system answers class by class: a missed disease is another matter than a false alarm."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from buckler.assess.ledger import Ledger
from buckler.errors import DataError
from buckler.stats import Rate, wilson

Json = dict[str, Any]


@dataclass(frozen=True)
class PerClass:
    """Of one class, each with its interval; the first three add up to one.

    found: its rows that were accepted as what they are (sensitivity). missed: its rows accepted as
    something else. referred: its rows sent to review. false_alarm: rows of the other classes
    accepted as it, of all these.
    """

    name: str
    found: Rate
    missed: Rate
    referred: Rate
    false_alarm: Rate

    def to_dict(self) -> Json:
        return asdict(self)


def per_class(ledger: Ledger, names: Sequence[str], attacked: bool) -> list[PerClass]:
    """One entry a class, in the order of the names.

    Args:
        attacked: what was answered to the points that attackers found, instead of the rows as
            they were. Rows that were wrong at first were not attacked: their answer stands.

    Raises: DataError if a class has no row.
    """
    answer = ledger.prediction_after if attacked else ledger.prediction_before
    accepted = ledger.accepted_after if attacked else ledger.accepted_before
    found = []
    for label, name in enumerate(names):
        mine, said = ledger.y == label, accepted & (answer == label)
        if not mine.any() or mine.all():
            raise DataError(
                f"every class needs rows, and others beside them. Got {int(mine.sum())} of "
                f"{len(mine)} rows for {name!r}: raise assess.rows"
            )
        found.append(
            PerClass(
                name,
                _share(said, mine),
                _share(accepted & (answer != label), mine),
                _share(~accepted, mine),
                _share(said, ~mine),
            )
        )
    return found


def balanced_accuracy(rows: Sequence[PerClass]) -> float:
    """The mean over classes of what is found (referred rows count as not found)."""
    return sum(row.found.value for row in rows) / len(rows)


def _share(hit: np.ndarray, of: np.ndarray) -> Rate:
    return wilson(int((hit & of).sum()), int(of.sum()))
