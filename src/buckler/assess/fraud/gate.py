"""The gate of a build: money evaded at a price may not rise."""

from buckler.assess.floors import Item
from buckler.assess.fraud.exposure import Exposure, paired_ratio
from buckler.errors import DataError


def money_item(now: Exposure, before: Exposure, budget: float = 5.0, rise: float = 0.05) -> Item:
    """Fails if the money evaded by whoever spends `budget` a fraud has risen by more than `rise`.

    Judged at the bad end of the interval, frauds paired: the same model rises by 0, whatever the
    draw.

    Raises: DataError for exposures of different frauds, or that did not look as far as the budget.
    """
    for each in (now, before):
        if each.budget < budget:
            raise DataError(
                f"the exposure of {each.name} looked up to ${each.budget:g}, the gate asks about "
                f"${budget:g}: measure it with that budget"
            )
    found = paired_ratio(now, before, budget)
    name = f"rise of money evaded at ${budget:g} a fraud"
    return Item("money-evaded", name, found.value, found.high, "<=", rise, len(now.price))
