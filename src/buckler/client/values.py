"""What the gateway tells a client, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from buckler.verdict import Status


@dataclass(frozen=True)
class Answer:
    """What the gateway says of one input.

    label: the number of the class `prediction`. review_id: under which a person will look at it,
    "" where nobody will. confidence, anomaly_score and reasons are there where the gateway shows
    scores. request_id: what its log knows the request by.
    """

    prediction: str
    label: int
    status: Status
    review_id: str
    confidence: float | None
    anomaly_score: float | None
    reasons: tuple[str, ...]
    bundle: str
    request_id: str


@dataclass(frozen=True)
class Outcome:
    """What became of an input under review; outcome and label are None until it is decided."""

    state: str
    outcome: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Review:
    """An item as its reviewer sees it; times are unix seconds.

    prediction and verdict are None while the reviewer answers blind.
    """

    id: str
    state: str
    version: int
    level: int = 0
    risk: float = 0.0
    created: float = 0.0
    due: float = 0.0
    media_type: str = ""
    prediction: str | None = None
    verdict: Mapping[str, Any] | None = None
    lease_id: str | None = None
    lease_until: float | None = None
    outcome: str | None = None
    label: str | None = None
    similar: int = 0
    history: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Decided:
    """What came of a decision; outcome and label once the item is decided."""

    state: str
    version: int
    outcome: str | None = None
    label: str | None = None
    undo_until: float | None = None


V = TypeVar("V", Outcome, Review, Decided)


def of(kind: type[V], found: Mapping[str, Any]) -> V:
    """The value of a JSON object; what it holds more is left out, for newer gateways may say more.

    Raises: TypeError if something is missing.
    """
    names = {field.name for field in fields(kind)}
    given = {name: value for name, value in found.items() if name in names}
    if isinstance(given.get("history"), list):
        given["history"] = tuple(given["history"])
    return kind(**given)
