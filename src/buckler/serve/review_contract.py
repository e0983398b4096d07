"""What /openapi.json says of the review API."""

from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from buckler.serve.contract import answer, refusals
from buckler.serve.review_forms import (
    ID,
    Asked,
    First,
    Lease,
    Next,
    Said,
    Since,
    parameters,
    request_body,
)
from buckler.store.decide import Decided
from buckler.store.listing import Listed, Outcome
from buckler.store.reviews import Review

Responses = dict[int | str, dict[str, Any]]
_ALWAYS: Final = (401, 403, 500, 503, 504)
_BODY: Final = (400, 408, 413, 415, 429)


def _schema(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema(mode="serialization")


def _route(
    answers: Responses,
    *statuses: int,
    form: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    one: bool = False,
) -> dict[str, Any]:
    """`responses` and `openapi_extra` of a route.

    Args:
        one: it is about the item of the path.
    """
    extra: dict[str, Any] = {}
    if form is not None:
        extra |= request_body(form)
    if query is not None:
        extra |= parameters(query)
    if one:
        extra["parameters"] = [ID]
    all_ = {*statuses, *_ALWAYS, *(_BODY if form else ()), *((404,) if one else ())}
    return {"responses": {**answers, **refusals(*sorted(all_))}, "openapi_extra": extra}


def _bytes(description: str, kind: str) -> Responses:
    schema = {"type": "string", "format": "binary"}
    return {200: {"description": description, "content": {kind: {"schema": schema}}}}


_REVIEW: Final[Responses] = {200: answer("the item, as its reviewer sees it", _schema(Review))}
_NONE: Final[Responses] = {204: {"description": "nobody holds it now"}}
_UNTIL: Final = {
    "type": "object",
    "properties": {"lease_until": {"type": "number", "description": "unix seconds"}},
    "required": ["lease_until"],
}
_LISTED: Final = {
    "type": "object",
    "properties": {"reviews": {"type": "array", "items": _schema(Listed)}},
    "required": ["reviews"],
}

NEXT: Final = _route(
    {**_REVIEW, 204: {"description": "nothing waits for this reviewer"}}, form=Next
)
LIST: Final = _route({200: answer("items in short", _LISTED)}, 400, query=Asked)
STATS: Final = _route({200: answer("counts and rates", {"type": "object"})})
EXPORT: Final = _route(
    _bytes("images by class, rows.npz, items.jsonl", "application/zip"), 400, 409, 429, query=Since
)
GET: Final = _route({**_REVIEW}, one=True)
INPUT: Final = _route(_bytes("an image, or numbers as .npy", "*/*"), one=True)
FIRST: Final = _route({**_REVIEW}, 409, form=First, one=True)
RENEW: Final = _route({200: answer("when the lease ends", _UNTIL)}, 409, form=Lease, one=True)
RELEASE: Final = _route(_NONE, form=Lease, one=True)
DECIDE: Final = _route({200: answer("what came of it", _schema(Decided))}, 409, form=Said, one=True)
UNDO: Final = _route({**_REVIEW}, 409, one=True)
OUTCOME: Final = _route({200: answer("how it stands", _schema(Outcome))}, one=True)
