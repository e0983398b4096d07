"""What may be sent to the review API, and how a wrong one is told."""

from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buckler.errors import DataError
from buckler.ops.review import Kind
from buckler.store.listing import State

_NO_NUL = r"^[^\x00]*$"
Word = Annotated[str, Field(max_length=200, pattern=_NO_NUL)]
# It becomes the name of a folder when it is exported.
Label = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x20./\\][^\x00-\x1f/\\]*$")]
M = TypeVar("M", bound=BaseModel)


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Next(Form):
    senior: Annotated[bool, Field(strict=True)] = False


class Lease(Form):
    lease_id: Word


class First(Form):
    lease_id: Word
    label: Label


class Said(Form):
    """A decision.

    key: the same decision under the same key is one; by default one a lease.
    whole_group: it holds for every row behind this one, too.
    """

    lease_id: Word
    version: Annotated[int, Field(strict=True, ge=1, lt=2**31)]
    kind: Kind
    label: Label | None = None
    note: Annotated[str, Field(max_length=4000, pattern=_NO_NUL)] = ""
    key: Word = ""
    whole_group: Annotated[bool, Field(strict=True)] = False


class Asked(Form):
    """Which items to list."""

    state: State | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50


class Since(Form):
    """since: unix seconds."""

    since: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] = 0.0


def body(form: type[M], content: bytes | bytearray) -> M:
    """The form in a JSON body; no body is an empty one. Raises: DataError."""
    try:
        value = orjson.loads(content or b"{}")
    except orjson.JSONDecodeError as error:
        raise DataError(f"the body must be JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError("the body must be a JSON object")
    return filled(form, value)


def filled(form: type[M], value: dict[str, Any]) -> M:
    """Raises: DataError naming the first thing wrong."""
    try:
        return form.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))[:80]
        raise DataError(f"{name!r} cannot be used: {first['msg']}") from None


def request_body(form: type[BaseModel]) -> dict[str, Any]:
    """The form as an OpenAPI requestBody."""
    schema = form.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def parameters(form: type[BaseModel]) -> dict[str, Any]:
    """The form as OpenAPI query parameters."""
    found = form.model_json_schema()["properties"]
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in found.items()
        ]
    }


ID: dict[str, Any] = {
    "name": "review_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
