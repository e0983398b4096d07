"""The gateway as an ASGI app: parse into rows, ask the guard, answer in JSON."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.gzip import GZipMiddleware
from torch import Tensor

from buckler.errors import PolicyError
from buckler.guard import Guard
from buckler.serve import contract, v2_contract
from buckler.serve.batcher import Batcher
from buckler.serve.body import Intake
from buckler.serve.docs import DOCS, STYLE, add_docs
from buckler.serve.frame import Frame
from buckler.serve.judged import Judged, judging
from buckler.serve.observe import Metrics, stderr_log
from buckler.serve.outputs import shown, verdicts
from buckler.serve.refusal import answer_errors, reply
from buckler.serve.settings import Settings
from buckler.serve.v2 import V2, Answer, add_v2, paths

CLASSIFY, LIVE, READY = "/v1/classify", "/v2/health/live", "/v2/health/ready"
METRICS, OPENAPI = "/metrics", "/openapi.json"
_ZIPPED = 1024  # bytes from which an answer is compressed for those who take it so
_NOT_READY = "the gateway is not ready: it is starting, stopping or broken"


def create_app(guard: Guard, settings: Settings, *, log: bool = True) -> FastAPI:
    """The gateway before `guard`. The thread that judges lives as long as the app's lifespan.

    Args:
        log: one line of JSON a request, to stderr.

    Raises: PolicyError if the settings ask for another bundle than the guard's, or the guard draws
        at random and nobody set the secret of its draws.
    """
    _check(guard, settings)
    batcher = Batcher(judging(guard), settings.max_rows, settings.max_waiting)
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
    named = (CLASSIFY, LIVE, READY, METRICS, OPENAPI, DOCS, STYLE, *paths(settings, guard.digest))
    app.add_middleware(GZipMiddleware, minimum_size=_ZIPPED, compresslevel=4)
    app.add_middleware(
        Frame,
        metrics=metrics,
        routes=frozenset(named),
        log=stderr_log() if log else None,
    )
    answer_errors(app)
    intake = Intake(guard.spec, settings)

    async def answer(request: Request, x: Tensor, until: float) -> Judged:
        judged = await batcher.answer(x, until)
        request.state.trace.verdicts = judged.verdicts
        return judged

    _add_classify(app, guard, intake, settings, answer)
    add_v2(app, V2(guard, intake, settings, answer, lambda: batcher.ready))
    _add_health(app, batcher)
    add_docs(app)

    @app.get(
        METRICS,
        summary="Counts for Prometheus",
        response_class=PlainTextResponse,
        responses=contract.refusals(500),
    )
    async def numbers() -> Response:
        return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)

    return app


def _check(guard: Guard, settings: Settings) -> None:
    if guard.random and not guard.secret:
        raise PolicyError(
            "this bundle's guard draws at random, and whoever knows the secret of its draws can "
            "choose them: set BUCKLER_SECRET"
        )
    if settings.digest is not None and guard.digest != settings.digest:
        raise PolicyError(
            f"the guard's digest must be {settings.digest}. Got {guard.digest or 'none'}: refused"
        )


def _add_classify(
    app: FastAPI, guard: Guard, intake: Intake, settings: Settings, answer: Answer
) -> None:
    @app.post(
        CLASSIFY,
        summary="A verdict for each input",
        responses=contract.responses(),
        openapi_extra=contract.request_body(guard.spec, settings.max_rows),
    )
    async def classify(request: Request) -> Response:
        until = asyncio.get_running_loop().time() + settings.deadline_s
        x = await intake.rows(request, until)
        judged = await answer(request, x, until)
        trace = request.state.trace
        found = {
            "verdicts": verdicts(judged, shown(settings.expose, trace.roles)),
            "bundle": guard.digest,
            "request_id": trace.request_id,
        }
        return reply(200, found)


def _add_health(app: FastAPI, batcher: Batcher) -> None:
    @app.get(LIVE, summary="The process answers", responses=v2_contract.live())
    async def live() -> Response:
        return reply(200, {"live": True})

    @app.get(READY, summary="Requests may be sent", responses=v2_contract.ready())
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
