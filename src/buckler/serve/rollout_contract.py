"""What may be sent to the rollout API, and what /openapi.json says of it."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from buckler.serve.contract import answer, refusals
from buckler.serve.review_forms import Form, request_body

_PLAIN = r"^[^\x00]*$"
_ALWAYS: Final = (401, 403, 500, 503, 504)
_BODY: Final = (400, 408, 413, 415, 429)
_ID: Final[dict[str, Any]] = {
    "name": "rollout_id",
    "in": "path",
    "required": True,
    "description": "an id, or current",
    "schema": {"type": "string", "pattern": "^([0-9a-f]{32}|current)$"},
}
_VERB: Final[dict[str, Any]] = {
    "name": "verb",
    "in": "path",
    "required": True,
    "schema": {"enum": ["pause", "resume", "promote", "rollback", "abort"]},
}


class Start(Form):
    """A rollout to a bundle.

    bundle: its folder, the same on every gateway's machine.
    digest: refuse any other bundle.
    policy: fields of `buckler.ops.evidence.Policy`; the others are as by default.
    """

    bundle: Annotated[str, Field(min_length=1, max_length=4000, pattern=_PLAIN)]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    policy: dict[str, Any] = Field(default_factory=dict)


class Hook(BaseModel):
    """What Flagger sends. metadata.digest: the bundle that it asks about, where the manifest
    names it."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    name: Annotated[str, Field(max_length=300)] = ""
    namespace: Annotated[str, Field(max_length=300)] = ""
    phase: Annotated[str, Field(max_length=100)] = ""
    metadata: dict[str, Any] = Field(default_factory=dict)


def _route(
    status: int,
    says: str,
    *extra: int,
    form: type[BaseModel] | None = None,
    path: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    more: dict[str, Any] = request_body(form) if form else {}
    if path:
        more["parameters"] = list(path)
    all_ = {*_ALWAYS, *extra, *(_BODY if form else ()), *((404,) if path else ())}
    found = {status: answer(says, {"type": "object"}), **refusals(*sorted(all_))}
    return {"responses": found, "openapi_extra": more}


LIST: Final = _route(200, "rollouts, newest first")
GET: Final = _route(200, "where it stands, and on what evidence", path=(_ID,))
METRICS: Final = _route(200, "the same in numbers, for Argo Rollouts", path=(_ID,))
START: Final = _route(201, "the rollout, in DRAFT", 409, form=Start)
ACT: Final = _route(200, "the rollout after it", 400, 409, path=(_ID, _VERB))
HOOK: Final = _route(200, "yes; 409 is no", 409, form=Hook)
