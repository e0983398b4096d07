"""What the attacker would do: the cheapest recipe a segment, and the features money hangs on."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from buckler.assess.fraud.exposure import Exposure
from buckler.ops.impact import Range

_USUAL = 0.1  # of a segment's evasions use a recipe that is told; a single lucky row is none


@dataclass(frozen=True)
class Recipe:
    """Features that are changed together, and what that costs.

    price: the median of the rows it gets through; rows: how many; of: evaded rows of the segment.
    """

    segment: str
    features: tuple[str, ...]
    price: float
    rows: int
    of: int

    def __str__(self) -> str:
        what = " and ".join(filter(None, [", ".join(self.features[:-1]), *self.features[-1:]]))
        return f"change {what}: ${self.price:.2f} ({self.rows} of {self.of} evaded)"


def recipes(exposure: Exposure) -> list[Recipe]:
    """For each segment the cheapest recipe that a tenth of its evasions use; segments whose frauds
    are not evaded, or are let through as they are, have none."""
    found = []
    for segment in sorted(set(exposure.segment)):
        rows = [
            at
            for at, changed in enumerate(exposure.changed)
            if changed and exposure.segment[at] == segment
        ]
        counts = Counter(exposure.changed[at] for at in rows)
        usual = [each for each, count in counts.items() if count >= _USUAL * len(rows)]
        told = [
            Recipe(
                segment,
                each,
                float(
                    np.median([exposure.price[at] for at in rows if exposure.changed[at] == each])
                ),
                counts[each],
                len(rows),
            )
            for each in usual
        ]
        if told:
            found.append(min(told, key=lambda each: (each.price, -each.rows, each.features)))
    return found


def by_feature(exposure: Exposure, budget: float) -> list[tuple[str, Range]]:
    """Money a week that is evaded by rows in which the feature was changed, the most first. A row
    counts for each feature it changes, so the amounts add up to more than all."""
    won = exposure.let_through(budget)
    names = {name for changed in exposure.changed for name in changed}
    found = []
    for name in names:
        uses = np.array([name in changed for changed in exposure.changed])
        found.append((name, exposure._a_week(np.where(won & uses, exposure.gains, 0.0))))
    return sorted(found, key=lambda each: (-each[1].value, each[0]))
