"""An item under review as the page shows it: words and numbers, nothing to work out in HTML."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from buckler.ops.review import is_free
from buckler.serve.looker import Look
from buckler.store.reviews import Review

CANNOT_TELL: Final = "cannot tell"
"""The first answer of who sees nothing in a blind item."""
_KEYS: Final = "1234567890abcdefghijklmnopqrstuvwxyz"
_BARS: Final = 10
_VALUES: Final = 400
_LARGE: Final = 160  # pixels from which an image is shown as large as it is
_SHOWN: Final = 224
_SAID: Final = {
    "accept": "accepted the machine’s answer",
    "label": "said it is",
    "adversarial": "called it adversarial",
    "corrupted": "called it corrupted",
    "unsure": "was unsure: a senior reviewer decides",
}


@dataclass(frozen=True)
class Bar:
    name: str
    text: str
    width: float


@dataclass(frozen=True)
class Choice:
    """A class to choose, and the key that chooses it ("" where there are too many)."""

    name: str
    key: str


def open_to(item: Review, user: str, now: float) -> bool:
    """Whether this reviewer holds the item and may decide."""
    return item.state == "waiting" and item.lease_by == user and not is_free(item.lease_until, now)


def hidden(item: Review) -> bool:
    """Whether its reviewer must answer blind before they see anything of the machine's."""
    return item.verdict is None


def choices(names: Sequence[str]) -> list[Choice]:
    """The classes with a key each: their own sign where they are signs, else in their order."""
    lower = [name.lower() for name in names]
    if len(set(lower)) == len(names) and all(len(n) == 1 and n in _KEYS for n in lower):
        return [Choice(name, key) for name, key in zip(names, lower, strict=True)]
    if len(names) > len(_KEYS):
        return [Choice(name, "") for name in names]
    return [Choice(name, key) for name, key in zip(names, _KEYS, strict=False)]


def bars(names: Sequence[str], probabilities: Sequence[float]) -> list[Bar]:
    """The likeliest classes, and the rest as one."""
    order = sorted(zip(probabilities, names, strict=True), key=lambda each: -each[0])
    shown = [Bar(name, percent(p), _width(p)) for p, name in order[:_BARS]]
    if rest := order[_BARS:]:
        total = sum(p for p, _ in rest)
        shown.append(Bar(f"{len(rest)} others", percent(total), _width(total)))
    return shown


def verdict(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """What was kept of the machine's answer, in print."""
    if given is None:
        return {}
    numbers = {n: float(given.get(n, math.nan)) for n in ("confidence", "anomaly_score")}
    return {
        "status": str(given.get("status", "")),
        "prediction": str(given.get("prediction", "")),
        "confidence": percent(numbers["confidence"]),
        "anomaly": f"{numbers['anomaly_score']:.3f}",
        "anomaly_width": _width(numbers["anomaly_score"]),
        "reasons": [str(reason) for reason in given.get("reasons", ())],
    }


def history(item: Review, now: float) -> list[dict[str, Any]]:
    """What reviewers said, oldest first."""
    return [
        {
            "who": made["reviewer"],
            "said": _SAID.get(made["kind"], made["kind"]),
            "label": made["label"],
            "note": made["note"],
            "ago": span(now - made["at"]),
            "undone": made["undone"] is not None,
        }
        for made in item.history
    ]


def standing(item: Review, user: str) -> dict[str, Any] | None:
    """This reviewer's own decision, if it was not undone."""
    for made in item.history:
        if made["reviewer"] == user and made["undone"] is None:
            return {"said": _SAID.get(made["kind"], made["kind"]), "label": made["label"]}
    return None


def shown_size(look: Look) -> tuple[int, int, bool]:
    """Width and height on the page, and whether pixels are enlarged, by a whole factor."""
    width, height = look.size
    longest = max(width, height, 1)
    if longest >= _LARGE:
        return width, height, False
    times = max(1, round(_SHOWN / longest))
    return width * times, height * times, True


def numbers(values: Sequence[float]) -> tuple[list[tuple[int, str]], int]:
    """The first values of a row with their number, and how many more there are."""
    shown = [(index, f"{value:.6g}") for index, value in enumerate(values[:_VALUES])]
    return shown, max(0, len(values) - _VALUES)


def percent(share: float) -> str:
    """
    >>> percent(0.98765)
    '98.8 %'
    """
    return f"{100 * share:.1f} %" if math.isfinite(share) else "no number"


def span(seconds: float) -> str:
    """
    >>> span(45), span(150), span(3 * 86400)
    ('45 s', '2 min', '3 days')
    """
    seconds = max(0.0, seconds)
    for limit, size, word in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)} {word}"
    return f"{int(seconds // 86_400)} days"


def _width(share: float) -> float:
    return round(100 * min(1.0, max(0.0, share)), 1) if math.isfinite(share) else 0.0
