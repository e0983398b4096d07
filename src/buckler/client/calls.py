"""Each thing a gateway can be asked: the request, and how its answer is read."""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from buckler import wire
from buckler.client.replies import Reply, as_object
from buckler.client.values import Answer, Decided, Outcome, Review, of
from buckler.errors import UsageError

T = TypeVar("T")
_INPUT: Final = "input"
_MODEL: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STATUSES: Final = ("ACCEPTED", "SUSPICIOUS")
_REVIEWS: Final = "/v1/reviews"


@dataclass(frozen=True, eq=False)
class Call(Generic[T]):
    """One request, the same however often it is sent.

    twice: whether the gateway may get it twice; a row is recorded once under its request id.
    """

    method: str
    path: str
    read: Callable[[Reply], T]
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    twice: bool = True
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)


def server(url: str) -> str:
    """The URL of a gateway without what may follow. Raises: UsageError."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(f"a gateway's URL is http://HOST:PORT or https://HOST. Got {url!r}")
    return url.rstrip("/")


def headers(key: str | None) -> dict[str, str]:
    """What every request carries. Raises: UsageError for a key that cannot be a header."""
    if key is None:
        return {}
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise UsageError("the key must be printable ASCII: is there a line break at its end?")
    return {"authorization": f"Bearer {key}"}


def model(name: str) -> str:
    """Raises: UsageError for what no model can be called."""
    if not _MODEL.fullmatch(name):
        raise UsageError(f"a model's name is letters, digits, dots, - and _. Got {name!r}")
    return name


def health(path: str) -> Call[bool]:
    return Call("GET", path, lambda reply: True)


def models() -> Call[tuple[str, ...]]:
    return Call("GET", "/v2/models", lambda reply: tuple(map(str, as_object(reply)["models"])))


def infer(name: str, rows: NDArray[np.generic]) -> Call[list[Answer]]:
    """The verdicts on rows. Raises: DataError for numbers the protocol does not know."""
    body, kind = wire.infer_request({_INPUT: rows}, binary=True).frame()
    path = f"/v2/models/{name}/infer"
    return Call("POST", path, lambda reply: _answers(reply, len(rows)), body, kind)


def _answers(reply: Reply, n: int) -> list[Answer]:
    found = wire.read_infer_response(
        *wire.unframe(reply.body, reply.headers.get(wire.HEADER_LENGTH.lower()))
    )
    columns = {name: array.tolist() for name, array in found.outputs.items()}
    bundle, request_id = (str(found.parameters[name]) for name in ("bundle", "request_id"))
    names = ("prediction", "label", "status", "review_id")
    scores = {name: columns.get(name, [None] * n) for name in ("confidence", "anomaly_score")}
    given = {name: columns[name] for name in names} | scores
    reasons = columns.get("reasons", [""] * n)
    answers = [
        Answer(
            **dict(zip(given, row, strict=True)),
            reasons=_words(why),
            bundle=bundle,
            request_id=request_id,
        )
        for *row, why in zip(*given.values(), reasons, strict=True)
    ]
    if len(answers) != n or any(each.status not in _STATUSES for each in answers):
        raise ValueError(f"there must be {n} verdicts, each ACCEPTED or SUSPICIOUS")
    return answers


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def outcome(review_id: str) -> Call[Outcome]:
    path = f"/v1/verdicts/{_part(review_id)}"
    return Call("GET", path, lambda reply: of(Outcome, as_object(reply)))


def next_review(senior: bool) -> Call[Review | None]:
    # Who holds an item gets that one again: twice does no harm.
    def read(reply: Reply) -> Review | None:
        return None if reply.status == 204 else of(Review, as_object(reply))

    return _post("next", {"senior": senior}, read)


def review(review_id: str) -> Call[Review]:
    return Call("GET", f"{_REVIEWS}/{_part(review_id)}", _review)


def review_input(review_id: str) -> Call[bytes]:
    return Call("GET", f"{_REVIEWS}/{_part(review_id)}/input", lambda reply: reply.body)


def first_answer(item: Review, label: str) -> Call[Review]:
    """The first one stands, so twice does no harm."""
    return _post(f"{_part(item.id)}/first", {"lease_id": item.lease_id, "label": label}, _review)


def renew(item: Review) -> Call[float]:
    return _post(
        f"{_part(item.id)}/renew",
        {"lease_id": item.lease_id},
        lambda reply: float(as_object(reply)["lease_until"]),
    )


def release(item: Review) -> Call[None]:
    return _post(f"{_part(item.id)}/release", {"lease_id": item.lease_id}, lambda reply: None)


def decide(item: Review, kind: str, label: str | None, note: str, key: str | None) -> Call[Decided]:
    """One decision, however often it is sent: the gateway knows it by its key."""
    given = {
        "lease_id": item.lease_id,
        "version": item.version,
        "kind": kind,
        "key": key or uuid.uuid4().hex,
        **({} if label is None else {"label": label}),
        **({"note": note} if note else {}),
    }
    return _post(f"{_part(item.id)}/decision", given, _decided)


def undo(item: Review) -> Call[Review]:
    """Sent once: a second one would be refused though the first was heard."""
    return _post(f"{_part(item.id)}/undo", {"lease_id": item.lease_id}, _review, twice=False)


def stats() -> Call[dict[str, Any]]:
    return Call("GET", f"{_REVIEWS}/stats", as_object)


def export(since: float) -> Call[None]:
    return Call("GET", f"{_REVIEWS}/export?since={since:.6f}", lambda reply: None)


def _post(
    what: str, value: Mapping[str, object], read: Callable[[Reply], T], *, twice: bool = True
) -> Call[T]:
    kind = {"content-type": "application/json"}
    return Call("POST", f"{_REVIEWS}/{what}", read, json.dumps(value).encode(), kind, twice)


def _review(reply: Reply) -> Review:
    return of(Review, as_object(reply))


def _decided(reply: Reply) -> Decided:
    return of(Decided, as_object(reply))


def _part(name: str) -> str:
    """A part of a path. Raises: UsageError for one that would be another path."""
    if name in ("", ".", ".."):
        raise UsageError(f"a review's id is a word. Got {name!r}")
    return quote(name, safe="")
