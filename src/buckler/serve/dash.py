"""The dashboard: what the gateways on the store do, for who operates them."""

import asyncio
import gzip
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Response
from fastapi.responses import RedirectResponse

from buckler.errors import UsageError
from buckler.look.plots import plotly_script
from buckler.ops.access import Role
from buckler.ops.rollout import VERBS
from buckler.serve.dash_views import Views
from buckler.serve.door import Door, Throttle
from buckler.serve.observe import Metrics
from buckler.serve.pages import DASHBOARD, MAY_LOAD, Handler, Shell, environment, put
from buckler.serve.parts import Parts
from buckler.serve.pulse import Pulse
from buckler.serve.refusal import RefusedError
from buckler.serve.reviewing import Answer, Page, Visit
from buckler.serve.rollouts import begin
from buckler.serve.scores import Scores
from buckler.serve.stored import Stored
from buckler.store import alerts, rollouts

READERS: Final[tuple[Role, ...]] = ("operate", "review", "admin")
_ACTORS: Final[tuple[Role, ...]] = ("operate",)
# plotly writes styles into the elements it makes; scripts stay this origin's own.
_POLICY: Final = "content-security-policy"
_DRAWN: Final = {
    _POLICY: MAY_LOAD[_POLICY].replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
}
_ID: Final = re.compile("[0-9a-f]{32}")
_PATH: Final = 1000


def add_dashboard(
    app: FastAPI, parts: Parts, stored: Stored, metrics: Metrics, signing: Sequence[bytes]
) -> None:
    """The pages, which `access.PAGES` lists, and the watcher that fills one of them.

    Args:
        signing: as of add_pages.
    """
    scores = Scores(stored.recorder, lambda: parts.arms.guards)
    parts.watch.add(scores)
    shell = Shell(Door(stored.store, signing, parts.settings.https, Throttle()), environment())
    views = Views(parts, stored, metrics, scores)
    pulse = Pulse(lambda: stored.ask(views.pulse), lambda: parts.arms.draining)
    app.state.dashboard = views
    acts = _Acts(stored)
    script = _Script()
    for name, (template, read) in views.all().items():
        path = f"{DASHBOARD}/{name}" if name else DASHBOARD
        put(app, f"GET {path}", shell.inside(_page(stored, name, template, read), READERS))

    async def events(visit: Visit) -> Answer:
        return pulse.answer()

    put(app, "GET /events", shell.inside(events, READERS))
    put(app, f"GET {DASHBOARD}/plotly.js", shell.inside(script.answer, READERS))
    put(app, f"POST {DASHBOARD}/rollout/{{verb}}", shell.inside(acts.roll, _ACTORS))
    put(app, f"POST {DASHBOARD}/alerts/{{alert_id}}", shell.inside(acts.acknowledge, _ACTORS))


def _page(
    stored: Stored, name: str, template: str, read: Callable[[Visit], Mapping[str, Any]]
) -> Handler:
    async def page(visit: Visit) -> Answer:
        facts = await stored.ask(lambda: read(visit))
        may_act = not visit.user.roles.isdisjoint(_ACTORS)
        drawn = _DRAWN if "figure" in facts or "charts" in facts else {}
        shown = {"page": name, "now": visit.now, "may_act": may_act, **facts}
        return Page(template, shown, headers=drawn)

    return page


@dataclass(frozen=True)
class _Acts:
    """What an operator does; the same functions as behind /v1."""

    stored: Stored

    async def roll(self, visit: Visit) -> Answer:
        """start, or a verb for the rollout that runs."""
        verb, store = str(visit.request.path_params["verb"]), self.stored.store
        if verb not in (*VERBS, "start"):
            raise RefusedError(404, f"a rollout takes start, {', '.join(VERBS)}")

        def act() -> None:
            me = visit.user.name
            if verb == "start":
                begin(store, _folder(visit), visit.now, me)
                return
            name = visit.form.get("rollout", "")
            if not _ID.fullmatch(name):
                raise UsageError("this form is not whole: reload the page")
            rollouts.act(store, name, verb, rollouts.observe_all, visit.now, me)

        await self.stored.ask(act)
        return RedirectResponse(f"{DASHBOARD}/rollout", 303)

    async def acknowledge(self, visit: Visit) -> Answer:
        name = str(visit.request.path_params["alert_id"])
        found = None
        if _ID.fullmatch(name):
            store, me = self.stored.store, visit.user.name
            found = await self.stored.ask(lambda: alerts.acknowledge(store, name, visit.now, me))
        if found is None:
            raise RefusedError(404, "there is no such alert")
        return RedirectResponse(f"{DASHBOARD}/alerts", 303)


def _folder(visit: Visit) -> Path:
    given = visit.form.get("bundle", "").strip()
    if not given or len(given) > _PATH:
        raise UsageError("a rollout needs the folder of a bundle, as the gateways see it")
    return Path(given)


class _Script:
    """plotly's own file, packed once: to pack four megabytes takes long."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._packed = b""

    async def answer(self, visit: Visit) -> Answer:
        async with self._lock:
            if not self._packed:
                self._packed = await asyncio.to_thread(_pack)
        headers = {"cache-control": f"private, max-age={7 * 86_400}", "vary": "accept-encoding"}
        if "gzip" in visit.request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            return Response(self._packed, 200, headers, "text/javascript")
        plain = await asyncio.to_thread(gzip.decompress, self._packed)
        return Response(plain, 200, headers, "text/javascript")


def _pack() -> bytes:
    return gzip.compress(plotly_script().encode(), 6)
