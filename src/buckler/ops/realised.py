"""Whether reviewers clear more of what was flagged than the calibration promised."""

from buckler.ops.alerts import Finding
from buckler.stats import wilson

SOURCE = "reviews"
_SURE = 0.999  # looked at once a day, so a false ticket in about five years


def key(bundle: str) -> str:
    return f"{bundle}/false positives"


def false_positives(
    bundle: str, rows: int, suspicious: int, cleared: int, decided: int, promised: float
) -> Finding | None:
    """A ticket where clean rows are surely flagged more often than was promised; else None.

    It holds if what was decided is a random part of what was flagged.

    Args:
        rows, suspicious: all rows of the bundle, and those of them that were SUSPICIOUS.
        cleared, decided: reviewed rows that were clean and rightly answered, of all reviewed.
        promised: the rate that the share of flagged clean rows was to stay under.
    """
    if not rows or not decided:
        return None
    flagged, cleared_rate = suspicious / rows, wilson(cleared, decided, _SURE)
    if flagged * cleared_rate.low <= promised:
        return None
    return Finding(
        key=key(bundle),
        tier="ticket",
        title="false positives: reviewers clear more rows than the calibration promised",
        facts={
            "statistic": "false positives",
            "cleared": cleared,
            "decided": decided,
            "rate": round(flagged * cleared_rate.value, 6),
            "promised": round(promised, 6),
        },
        action="Calibrate a new bundle on recent, reviewed rows.",
        runbook="false-positives",
        bundle=bundle,
        source=SOURCE,
    )
