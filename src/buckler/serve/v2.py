"""The Open Inference Protocol (V2): metadata, health of the model, inference."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import orjson
from fastapi import FastAPI, Request, Response

from buckler import wire
from buckler.errors import DataError
from buckler.guard import Guard
from buckler.serve import v2_contract
from buckler.serve.arms import Served
from buckler.serve.body import QUICK, QUICK_BINARY, Intake
from buckler.serve.columns import ports
from buckler.serve.direct import Direct
from buckler.serve.inputs import Inputs
from buckler.serve.judged import Judged
from buckler.serve.outputs import OUTPUTS, arrays, shown
from buckler.serve.refusal import RefusedError, reply
from buckler.serve.settings import Settings
from buckler.serve.tensor import INPUT, is_numbers, rows_of

Answer = Callable[[Request, Inputs, float], Awaitable[Judged]]
SERVER, MODELS = "/v2", "/v2/models"
_NOT_TAKEN: Final = tuple(
    name for name in wire.RESERVED if name not in ("timeout", "binary_data_output")
)


@dataclass(frozen=True)
class V2:
    """What the routes of one bundle need.

    answer: judges rows for a request until a time of the loop.
    ready: whether the model judges.
    of: the bundle that answers a client.
    """

    guard: Guard
    intake: Intake
    settings: Settings
    answer: Answer
    ready: Callable[[], bool]
    of: Callable[[str], tuple[Served, str]]

    def digest(self, request: Request) -> str:
        """Of the bundle that answers this caller; of one without a name, as all others."""
        caller = getattr(request.state, "caller", None)
        return self.of("" if caller is None else caller.id)[0].digest

    def find(self, request: Request) -> None:
        """Raises: RefusedError 404 if the path names another model or version."""
        model, digest = self.settings.model, self.digest(request)
        given = request.path_params.get("version", digest)
        if request.path_params["model"] != model:
            raise RefusedError(404, f"there is no such model: the model here is {model!r}")
        if given not in (digest[:12], digest):
            raise RefusedError(404, f"there is no such version: the version is {digest[:12]!r}")

    def metadata(self, names: tuple[str, ...], digest: str) -> dict[str, object]:
        columns = {"probabilities": [-1, self.guard.spec.classes]}
        text, shape = self.guard.spec.text, self.guard.spec.shape
        datatype, sizes = ("BYTES", [-1]) if text else ("FP32", [-1, *shape])
        return {
            "name": self.settings.model,
            "versions": [digest[:12]],
            "platform": "buckler",
            "inputs": [{"name": INPUT, "datatype": datatype, "shape": sizes}]
            if self.guard.table is None
            else ports(self.guard.table),
            "outputs": [
                {
                    "name": name,
                    "datatype": OUTPUTS[name].datatype,
                    "shape": columns.get(name, [-1]),
                }
                for name in names
            ],
            "properties": {"bundle": digest},
        }

    async def infer(self, request: Request) -> Response:
        """The whole way of one inference request."""
        now = asyncio.get_running_loop().time()
        until = now + self.settings.deadline_s
        trace = request.state.trace
        async with self.intake.content(request, until) as content:
            asked, inputs = await self._rows(
                content, request.headers.get(wire.HEADER_LENGTH), until
            )
        until = min(until, now + _timeout_s(asked.parameters))
        names = _names(asked.outputs, shown(self.settings.expose, trace.roles))
        judged = await self.answer(request, inputs, until)
        return self._answered(asked, judged, names, trace.request_id)

    async def _rows(
        self, content: bytes | bytearray, length: str | None, until: float
    ) -> tuple[wire.InferRequest, Inputs]:
        """What is asked, and its rows; in a thread where that takes long."""

        def parse(asked: wire.InferRequest) -> tuple[wire.InferRequest, Inputs]:
            guard, most = self.guard, self.settings.max_rows
            return asked, rows_of(asked, guard.spec, most, until, guard.table)

        if _json_size(content, length) > QUICK or len(content) > QUICK_BINARY:
            return await self.intake.in_thread(lambda: parse(self._read(content, length)), until)
        if length == "0":
            return parse(self._read(content, length))
        value, tail = wire.unframe(content, length, orjson.loads)
        if self.guard.spec.text or is_numbers(value):
            return parse(wire.read_infer_request(value, tail))
        files = self.intake.in_thread(lambda: parse(wire.read_infer_request(value, tail)), until)
        return await files

    def _read(self, content: bytes | bytearray, length: str | None) -> wire.InferRequest:
        if length == "0":
            spec = self.guard.spec
            return wire.raw_request(content, INPUT, "BYTES" if spec.text else "FP32", spec.shape)
        return wire.read_infer_request(*wire.unframe(content, length, orjson.loads))

    def _answered(
        self, asked: wire.InferRequest, judged: Judged, names: tuple[str, ...], request_id: str
    ) -> Response:
        digest = judged.verdicts[0].bundle
        message = wire.infer_response(
            self.settings.model,
            arrays(judged, self.guard.spec, names),
            digest[:12],
            asked.id,
            parameters={
                "bundle": digest,
                "suspicious_count": sum(v.status == "SUSPICIOUS" for v in judged.verdicts),
                "request_id": request_id,
            },
            binary=[name for name in names if asked.wants_binary(name)],
        )
        body, headers = message.frame(orjson.dumps)
        return Response(body, 200, headers)


def add_v2(app: FastAPI, v2: V2) -> None:
    """The routes, but those of the server's own health."""
    digest = v2.guard.digest
    names = {"model": [v2.settings.model], "version": [digest[:12], digest]}
    contract = v2_contract.Contract(v2.guard.spec, v2.settings.max_rows, names, v2.guard.table)

    @app.get(SERVER, summary="What this server is", responses=contract.server())
    async def server() -> Response:
        extensions = ["binary_tensor_data"]
        found = {"name": "buckler", "version": version("buckler"), "extensions": extensions}
        return reply(200, found)

    @app.get(MODELS, summary="The models here", responses=contract.models())
    async def models() -> Response:
        return reply(200, {"models": [v2.settings.model]})

    async def metadata(request: Request) -> Response:
        v2.find(request)
        names = shown(v2.settings.expose, request.state.trace.roles)
        return reply(200, v2.metadata(names, v2.digest(request)))

    async def ready(request: Request) -> Response:
        v2.find(request)
        found: dict[str, object] = {"name": v2.settings.model, "ready": v2.ready()}
        if found["ready"]:
            return reply(200, found)
        return reply(503, {**found, "error": "the model does not judge now: try again"})

    async def infer(request: Request) -> Response:
        v2.find(request)
        return await v2.infer(request)

    for path in ("/{model}", "/{model}/versions/{version}"):
        which, at = contract.path(path), MODELS + path
        app.get(at, summary="Inputs and outputs", responses=contract.model(), openapi_extra=which)(
            metadata
        )
        app.get(
            f"{at}/ready",
            summary="The model judges",
            responses=contract.ready(),
            openapi_extra=which,
        )(ready)
        app.router.add_api_route(
            f"{at}/infer",
            infer,
            methods=["POST"],
            summary="Verdicts on tensors or image files",
            responses=contract.infer(),
            openapi_extra=contract.request(path),
            route_class_override=Direct,
        )


def paths(settings: Settings, digest: str) -> list[str]:
    """The paths that are counted by name."""
    model = f"{MODELS}/{settings.model}"
    each = (model, f"{model}/versions/{digest[:12]}")
    return [SERVER, MODELS, *each, *(f"{p}/{end}" for p in each for end in ("ready", "infer"))]


def _json_size(content: bytes | bytearray, length: str | None) -> int:
    """At most so many bytes of the body are JSON."""
    plain = length is not None and length.isascii() and length.isdecimal() and len(length) <= 18
    return min(int(length), len(content)) if length is not None and plain else len(content)


def _timeout_s(parameters: wire.Parameters) -> float:
    """The seconds that the caller gives; 0, as none at all, leaves the deadline as it is."""
    for name in parameters:
        if name in _NOT_TAKEN or name.startswith("triton_"):
            raise DataError(f"the parameter {name[:60]!r} is not taken: leave it out")
    given = parameters.get("timeout", 0)
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise DataError(f"timeout must be a whole number of microseconds >= 0. Got {given!r}"[:160])
    return min(given, 10**15) / 1e6 if given else float("inf")


def _names(asked: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    strange = [name for name in asked if name not in allowed]
    if strange:
        raise DataError(f"outputs must be of {', '.join(allowed)}. Got {strange[0][:60]!r}")
    return asked or allowed
