"""The gateway as an ASGI app: parse into rows, ask the guard, answer in JSON."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from buckler.errors import PolicyError
from buckler.guard import Guard
from buckler.serve import contract
from buckler.serve.batcher import Batcher
from buckler.serve.body import Intake
from buckler.serve.frame import Frame
from buckler.serve.observe import Metrics, stderr_log
from buckler.serve.refusal import answer_errors, reply
from buckler.serve.settings import Settings

CLASSIFY, LIVE, READY = "/v1/classify", "/v2/health/live", "/v2/health/ready"
METRICS, OPENAPI = "/metrics", "/openapi.json"
_NOT_READY = "the gateway is not ready: it is starting, stopping or broken"


def create_app(guard: Guard, settings: Settings, *, log: bool = True) -> FastAPI:
    """The gateway before `guard`. The thread that judges lives as long as the app's lifespan.

    Args:
        log: one line of JSON a request, to stderr.

    Raises: PolicyError if the settings ask for another bundle than the guard's, or the guard draws
        at random and nobody set the secret of its draws.
    """
    if guard.random and not guard.secret:
        raise PolicyError(
            "this bundle's guard draws at random, and whoever knows the secret of its draws can "
            "choose them: set BUCKLER_SECRET"
        )
    if settings.digest is not None and guard.digest != settings.digest:
        raise PolicyError(
            f"the guard's digest must be {settings.digest}. Got {guard.digest or 'none'}: refused"
        )
    batcher = Batcher(guard.judge, settings.max_rows, settings.max_waiting)
    metrics = Metrics(batcher.rows_waiting)
    app = FastAPI(
        title="Buckler",
        version=version("buckler"),
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(batcher),
    )
    app.state.batcher = batcher
    app.add_middleware(
        Frame,
        metrics=metrics,
        routes=frozenset((CLASSIFY, LIVE, READY, METRICS, OPENAPI)),
        log=stderr_log() if log else None,
    )
    answer_errors(app)
    _add_classify(app, guard, batcher, settings)
    _add_health(app, batcher)

    @app.get(METRICS, summary="Counts for Prometheus", response_class=PlainTextResponse)
    async def numbers() -> Response:
        return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)

    return app


def _add_classify(app: FastAPI, guard: Guard, batcher: Batcher, settings: Settings) -> None:
    intake = Intake(guard.spec, settings)

    @app.post(
        CLASSIFY,
        summary="A verdict for each input",
        responses=contract.responses(),
        openapi_extra=contract.request_body(guard.spec, settings.max_rows),
    )
    async def classify(request: Request) -> Response:
        until = asyncio.get_running_loop().time() + settings.deadline_s
        x = await intake.rows(request, until)
        trace = request.state.trace
        trace.verdicts = await batcher.answer(x, until)
        answer = {
            "verdicts": [verdict.to_dict() for verdict in trace.verdicts],
            "bundle": guard.digest,
            "request_id": trace.request_id,
        }
        return reply(200, answer)


def _add_health(app: FastAPI, batcher: Batcher) -> None:
    @app.get(LIVE, summary="The process answers")
    async def live() -> Response:
        return reply(200, {"live": True})

    @app.get(READY, summary="Requests may be sent", responses=contract.refusals(503))
    async def ready() -> Response:
        if batcher.ready:
            return reply(200, {"live": True, "ready": True})
        return reply(503, {"live": True, "ready": False, "error": _NOT_READY})


def _lifespan(
    batcher: Batcher,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await asyncio.to_thread(batcher.stop)

    return lifespan
