"""The page of the impact in money: prices from its form, all else counted from the store."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from buckler.errors import UsageError
from buckler.ops.counted import as_sample, lacking
from buckler.ops.impact import Prices, Traffic, impact
from buckler.serve.figures import when
from buckler.store.load import Seen

_DAY: Final = 86_400.0
_FIELDS: Final = ("missed", "review", "false_alarm", "minutes", "unit", "days", "attacks", "of")
_EMPTY: Final = {"minutes": "3", "unit": "EUR", "days": "28"}
_LONGEST: Final = 366


def money(
    query: Mapping[str, str], now: float, read: Callable[[float, float], Seen]
) -> dict[str, Any]:
    """What the template shows. `wrong`: a sentence on what was filled in; no claim then.

    attacks, of: how many attacks are in how many inputs, where the operator knows better than the
    reviewed sample; both empty: the sample's.
    """
    given = {name: query.get(name, _EMPTY.get(name, "")).strip()[:40] for name in _FIELDS}
    found: dict[str, Any] = {"given": given, "wrong": "", "claim": None, "lacks": [], "seen": None}
    try:
        days = _number(given["days"], "days")
        if not 1 <= days <= _LONGEST:
            raise UsageError(f"days must be 1 to {_LONGEST}. Got {days:g}")
        seen = read(now - days * _DAY, now)
        found |= {"seen": seen, "lacks": lacking(seen.suspicious, seen.accepted)}
        sample = as_sample(seen.suspicious, seen.accepted)
        if sample is None:
            few = "too few attacks were confirmed for the share of rows that was reviewed"
            return {**found, "lacks": found["lacks"] or [few]}
        found["sample"] = sample
        if not all(given[name] for name in ("missed", "review", "false_alarm")):
            return found
        missed, review, alarm, minutes = (
            _number(given[name], name) for name in ("missed", "review", "false_alarm", "minutes")
        )
        prices = Prices(missed, review, alarm, minutes, given["unit"] or "EUR")
        prevalence = sample.prevalence
        if given["attacks"] or given["of"]:
            prevalence = (_whole(given["attacks"], "attacks"), _whole(given["of"], "of"))
        rows = seen.suspicious.rows + seen.accepted.rows
        traffic = Traffic(rows * 7 / days, prevalence)
        claim = impact(traffic, prices, sample.before, sample.after)
    except UsageError as error:
        return {**found, "wrong": str(error)}
    return {**found, "claim": claim, "window": (when(now - days * _DAY), when(now))}


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{name} must be a number. Got {text!r}") from None


def _whole(text: str, name: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise UsageError(f"{name} must be a whole number. Got {text!r}")
    return int(text)
