"""Checks 26 to 28: rules of the report, judged once its evidence is there."""

from collections.abc import Sequence
from typing import Any

from buckler.assess.ablation import Part
from buckler.assess.battery.check import REPORT, Check, Mark, absent
from buckler.assess.plausibility import Alarm

_ROWS = 1000
_FACTS = ("seed", "versions", "threat", "suite", "rates")


def report_rules(
    alarms: Sequence[Alarm], parts: Sequence[Part], assessment: dict[str, Any]
) -> tuple[Check, ...]:
    """The three, from what was measured of a guard.

    Args:
        alarms: of plausibility; parts: of the ablation, the whole guard first.
        assessment: the file of the adaptive assessment, as `Assessment.to_dict` gives it.
    """
    return (_plausible(alarms), _ablated(parts), _complete(assessment))


def _plausible(alarms: Sequence[Alarm]) -> Check:
    """26: a figure better than theory or the best published work allows (Tramèr 2022)."""
    name = "too good to be true"
    if not alarms:
        return absent(26, name, REPORT, "no bound is known for this data and threat")
    raised = [alarm for alarm in alarms if alarm.raised]
    said = "; ".join(alarm.sentence for alarm in raised) or "every figure is plausible"
    mark: Mark = "warn" if raised else "pass"
    return Check(26, name, REPORT, len(raised), "any alarm warns", mark, said)


def _ablated(parts: Sequence[Part]) -> Check:
    """27: the whole beats its parts, or a part is to be dropped."""
    name = "each part taken out"
    if len(parts) < 2:
        return absent(27, name, REPORT, "there is one part only")
    idle = [part.removed for part in parts[1:] if not part.pays]
    said = f"no gain measured from: {', '.join(idle)}" if idle else "every part pays"
    mark: Mark = "warn" if idle else "pass"
    return Check(27, name, REPORT, len(idle), "a part that does not pay warns", mark, said)


def _complete(assessment: dict[str, Any]) -> Check:
    """28: worst case over attacks row by row, intervals, parameters, seeds, and 1,000 rows."""
    missing = [fact for fact in _FACTS if not assessment.get(fact) and assessment.get(fact) != 0]
    n = int(assessment.get("n", 0))
    if n < _ROWS:
        missing.append(f"{_ROWS} rows (there are {n})")
    said = f"missing: {', '.join(missing)}" if missing else f"{n} rows, nothing is missing"
    limit = f">= {_ROWS} rows with intervals, threat, suite, seeds, versions; else warns"
    return Check(28, "what a figure needs", REPORT, n, limit, "warn" if missing else "pass", said)
