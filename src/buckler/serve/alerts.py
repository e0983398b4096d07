"""Alerts over HTTP: what stands, who takes care of it, and what other processes found."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import FastAPI, Request, Response
from pydantic import Field

from buckler.errors import ConflictError, DataError, StoreDownError
from buckler.ops.alarms import not_watched
from buckler.ops.alerts import Alert, Finding, State, link
from buckler.ops.charts import Tier
from buckler.serve.body import Intake
from buckler.serve.contract import answer, refusals
from buckler.serve.refusal import RefusedError, reply
from buckler.serve.review_forms import Form, Word, body, filled, parameters, request_body
from buckler.serve.stored import Stored
from buckler.store import alerts
from buckler.store.monitors import Telling

ALERTS: Final = "/v1/alerts"
ACKNOWLEDGE: Final = f"{ALERTS}/{{alert_id}}/acknowledge"
_ID: Final = re.compile("[0-9a-f]{32}")
_ALWAYS: Final = (401, 403, 500, 503, 504)
_NO_NUL: Final = r"^[^\x00]*$"
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_NO_NUL)]
T = TypeVar("T")


class Asked(Form):
    state: State | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class Posted(Form):
    """What another process found.

    key: the same for the same trouble; status resolved: it is over.
    runbook: a section of the guide, or a URL. examples: review ids.
    """

    key: Name
    tier: Tier
    title: Name
    facts: Annotated[
        dict[Word, Annotated[str, Field(max_length=2000, pattern=_NO_NUL)] | int | float | bool],
        Field(max_length=50),
    ] = {}  # noqa: RUF012, pydantic copies it
    action: Annotated[str, Field(max_length=2000, pattern=_NO_NUL)] = ""
    runbook: Word = ""
    bundle: Word = ""
    examples: Annotated[tuple[Word, ...], Field(max_length=20)] = ()
    status: Literal["firing", "resolved"] = "firing"


_LISTED: Final = {
    "type": "object",
    "properties": {
        "alerts": {"type": "array", "items": {"type": "object"}},
        "monitors": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["alerts", "monitors"],
}
_ONE: Final = {"type": "object", "required": ["id", "key", "tier", "state"]}
_PATH: Final = {
    "name": "alert_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}


def add_alerts(app: FastAPI, stored: Stored, intake: Intake) -> None:
    """The routes, each of them in access.ROUTES."""
    api = _Api(stored, intake)
    app.get(
        ALERTS,
        summary="Alerts, those that are not over first",
        responses={200: answer("alerts and monitors", _LISTED), **refusals(400, *_ALWAYS)},
        openapi_extra=parameters(Asked),
    )(api.list)
    app.post(
        ALERTS,
        summary="Raise or resolve an alert from another process",
        responses={
            200: answer("the alert", _ONE),
            204: {"description": "nothing stood under this key"},
            **refusals(400, 408, 413, 415, 429, *_ALWAYS),
        },
        openapi_extra=request_body(Posted),
    )(api.post)
    app.post(
        ACKNOWLEDGE,
        summary="Take care of an alert",
        responses={200: answer("the alert", _ONE), **refusals(404, 409, *_ALWAYS)},
        openapi_extra={"parameters": [_PATH]},
    )(api.acknowledge)


@dataclass(frozen=True)
class _Api:
    stored: Stored
    intake: Intake

    async def list(self, request: Request) -> Response:
        asked = filled(Asked, dict(request.query_params))
        found = await self._ask(lambda: alerts.listed(self.stored.store, asked.state, asked.limit))
        monitors = [
            {
                "bundle": digest,
                "rows": state.seen,
                "levels": {name: round(at, 4) for name, (at, _, _) in state.charts.items()},
                "not_watched": not_watched(reference, state),
            }
            for digest, reference, state in self.stored.monitor.states()
        ]
        return reply(200, {"alerts": [self._shown(each) for each in found], "monitors": monitors})

    async def post(self, request: Request) -> Response:
        until = asyncio.get_running_loop().time() + self.stored.deadline_s
        async with self.intake.content(request, until) as content:
            given = body(Posted, content)
        finding = Finding(
            # A name of its own: no caller may stand in the monitor's place.
            key=f"posted/{given.key}",
            tier=given.tier,
            title=given.title,
            facts=given.facts,
            action=given.action,
            runbook=given.runbook,
            bundle=given.bundle,
            examples=given.examples,
            source=request.state.caller.id,
        )

        def keep() -> Alert | None:
            telling, now = self._telling, time.time()
            with self.stored.store.write() as connection:
                if given.status == "resolved":
                    return alerts.end(connection, finding.key, now, telling.ways, telling.base)
                return alerts.raise_alert(connection, finding, now, telling.ways, telling.base)

        found = await self._ask(keep)
        return Response(status_code=204) if found is None else reply(200, self._shown(found))

    async def acknowledge(self, request: Request) -> Response:
        request.state.trace.route = ACKNOWLEDGE
        name, me = str(request.path_params["alert_id"]), request.state.caller.id
        found = None
        if _ID.fullmatch(name):
            found = await self._ask(
                lambda: alerts.acknowledge(self.stored.store, name, time.time(), me)
            )
        if found is None:
            raise RefusedError(404, "no alert has this id")
        return reply(200, self._shown(found))

    @property
    def _telling(self) -> Telling:
        return self.stored.monitor.telling

    def _shown(self, alert: Alert) -> dict[str, Any]:
        flat = {**vars(alert), **vars(alert.finding)}
        del flat["finding"]
        return {**flat, "runbook": link(self._telling.base, alert.finding.runbook)}

    async def _ask(self, read: Callable[[], T]) -> T:
        try:
            return await self.stored.ask(read)
        except ConflictError as error:
            raise RefusedError(409, str(error), reason="conflict") from None
        except (StoreDownError, DataError) as error:
            sentence = "the store cannot be used now: try again"
            raise RefusedError(503, sentence, 1, reason="store") from error
