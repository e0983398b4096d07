"""The gateway as an ASGI app: parse into rows, ask the guard, answer in JSON."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from buckler.guard import Guard
from buckler.ops.access import KeyRing
from buckler.serve import contract, v2_contract
from buckler.serve.access import Access, check_gates, gate
from buckler.serve.alerts import add_alerts
from buckler.serve.body import Intake
from buckler.serve.dash import add_dashboard
from buckler.serve.desk import Desk
from buckler.serve.direct import Direct
from buckler.serve.docs import DOCS, STYLE, add_docs
from buckler.serve.frame import Frame, put_around
from buckler.serve.inputs import Inputs
from buckler.serve.judged import Judged
from buckler.serve.observe import Metrics, stderr_log
from buckler.serve.outputs import shown, verdicts
from buckler.serve.pages import add_pages
from buckler.serve.parts import Parts, assemble
from buckler.serve.refusal import NOT_READY, reply
from buckler.serve.reviews import add_reviews
from buckler.serve.rollouts import add_rollouts
from buckler.serve.settings import Settings
from buckler.serve.streams import add_suspects
from buckler.serve.v2 import V2, Answer, add_v2, paths
from buckler.serve.watch import Watcher
from buckler.store.engine import Store
from buckler.store.shared import session_secret

CLASSIFY, LIVE, READY = "/v1/classify", "/v2/health/live", "/v2/health/ready"
METRICS, OPENAPI = "/metrics", "/openapi.json"


def create_app(
    guard: Guard,
    settings: Settings,
    *,
    log: bool = True,
    keys: KeyRing | None = None,
    store: Store | None = None,
    watchers: Sequence[Watcher] = (),
    bundle: Path | None = None,
) -> FastAPI:
    """The gateway before `guard`. The thread that judges lives as long as the app's lifespan, and
    so does what runs on the store.

    Args:
        log: one line of JSON a request, to stderr.
        keys: who may call; those of settings.keys_file if not given, and those of the store. None
            at all: this machine.
        store: one that is open already; that of settings.store if not given. The app closes it.
        watchers: are shown what was answered, off the path.
        bundle: the folder that the guard came from.

    Raises: UsageError for a file of keys or a store that cannot be used, or inputs too large for
        the queue; StoreDownError; PolicyError if the settings ask for another bundle than the
        guard's, or the guard draws at random and nobody set the secret of its draws.
    """
    logger = stderr_log() if log else None
    parts = assemble(guard, settings, logger, keys, store, watchers, bundle)
    app = FastAPI(
        title="Buckler",
        version=version("buckler"),
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(parts),
    )
    app.state.runner, app.state.stored, app.state.streams = (
        parts.arms,
        parts.stored,
        parts.streams,
    )
    metrics = Metrics(parts.arms, parts.registry, lambda: not parts.not_ready)
    routes = (CLASSIFY, LIVE, READY, METRICS, OPENAPI, DOCS, STYLE, *paths(settings, guard.digest))
    put_around(
        app,
        lambda inner: Frame(
            inner,
            metrics=metrics,
            routes=frozenset(routes),
            log=logger,
            closing=lambda: parts.arms.draining,
            https=settings.https,
        ),
    )
    desk = parts.desk()
    _add_routes(app, parts, desk, metrics)
    gate(app, Access(parts.keys, parts.quota, desk.check))
    return app


def _add_routes(app: FastAPI, parts: Parts, desk: Desk, metrics: Metrics) -> None:
    guard, settings, stored = parts.guard, parts.settings, parts.stored
    intake, answer = parts.intake(), _answer(desk)
    _add_classify(app, guard, intake, settings, answer)
    add_v2(app, V2(guard, intake, settings, answer, lambda: not parts.not_ready, parts.arms.of))
    _add_health(app, parts)
    _add_metrics(app, metrics)
    add_suspects(app, parts.streams)
    if stored is not None:
        add_reviews(app, stored, intake)
        add_rollouts(app, stored, intake, parts.registry)
        add_alerts(app, stored, intake)
        signing = settings.signing or (session_secret(stored.store, time.time()),)
        add_pages(
            app, guard, stored.store, signing=signing, https=settings.https, known=stored.secret
        )
        add_dashboard(app, parts, stored, metrics, signing)
    add_docs(app)


def _answer(desk: Desk) -> Answer:
    async def answer(request: Request, inputs: Inputs, until: float) -> Judged:
        trace = request.state.trace
        judged = await desk.answer(request.state.caller, trace.request_id, inputs, until)
        trace.verdicts = judged.verdicts
        return judged

    return answer


def _add_classify(
    app: FastAPI, guard: Guard, intake: Intake, settings: Settings, answer: Answer
) -> None:
    async def classify(request: Request) -> Response:
        until = asyncio.get_running_loop().time() + settings.deadline_s
        judged = await answer(request, await intake.rows(request, until), until)
        trace = request.state.trace
        found = {
            "verdicts": verdicts(judged, shown(settings.expose, trace.roles)),
            "bundle": judged.verdicts[0].bundle,
            "request_id": trace.request_id,
        }
        return reply(200, found)

    app.router.add_api_route(
        CLASSIFY,
        classify,
        methods=["POST"],
        summary="A verdict for each input",
        responses=contract.responses(),
        openapi_extra=contract.request_body(guard.spec, settings.max_rows, guard.table),
        route_class_override=Direct,
    )


def _add_health(app: FastAPI, parts: Parts) -> None:
    @app.get(LIVE, summary="The process answers", responses=v2_contract.live())
    async def live() -> Response:
        return reply(200, {"live": True})

    @app.get(READY, summary="Requests may be sent", responses=v2_contract.ready())
    async def ready() -> Response:
        why = parts.not_ready
        if not why:
            return reply(200, {"live": True, "ready": True})
        error = f"the gateway is not ready: {NOT_READY[why]}"
        return reply(503, {"live": True, "ready": False, "error": error})


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get(
        METRICS,
        summary="Counts for Prometheus",
        response_class=PlainTextResponse,
        responses=contract.refusals(500),
    )
    async def numbers() -> Response:
        # Many numbers take long to print: the answers to others do not wait for it.
        page = await asyncio.to_thread(metrics.page)
        return Response(page, media_type=CONTENT_TYPE_LATEST)


def _lifespan(parts: Parts) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        check_gates(app)
        await asyncio.to_thread(parts.start)
        yield
        await asyncio.to_thread(parts.stop)

    return lifespan
