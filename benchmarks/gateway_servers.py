"""One server in a process of its own: python -m benchmarks.gateway_servers WHICH CASE MODEL.

WHICH: buckler; fastapi, a plain handler around the model; or uvicorn, which reads the body and
answers a constant: what no gateway on it can be below. MODEL: idle, guard, or the
milliseconds that a batch takes (buckler only). It prints its URL, then serves until it is told to
end. LitServe is in gateway_litserve.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.gateway_cases import Idle, cases, guarded

SETTINGS = "GATEWAY_BENCH_SETTINGS"


def judge(spec: Any, model: str) -> Callable[[Tensor], list[dict[str, Any]]]:
    """What every server asks of its model: a row of x → what is answered."""
    torch.set_num_threads(1)
    if model == "idle":
        return lambda x: [{"prediction": "a", "status": "ACCEPTED"}] * len(x)
    guard = guarded(spec)
    return lambda x: [{"prediction": v.prediction, "status": v.status} for v in guard.judge(x)]


def buckler(case: str, model: str) -> None:
    from buckler.serve import Background, Settings
    from buckler.serve.run import signals

    spec = cases()[case].spec
    if model == "guard":
        guard: Any = guarded(spec)
    else:
        guard = Idle(spec, 0.0 if model == "idle" else float(model) / 1000)
    settings = Settings.read(port=0, **json.loads(os.environ.get(SETTINGS, "{}")))
    with signals() as caught, Background(guard, settings, log=False) as url:
        say(url)
        while not caught:
            time.sleep(0.05)


def fastapi(case: str, model: str) -> None:
    from fastapi import FastAPI, Request

    chosen, app = cases()[case], FastAPI()
    ask = judge(chosen.spec, model)

    @app.post(chosen.path)
    async def classify(request: Request) -> dict[str, Any]:
        return {"verdicts": ask(chosen.decode(await request.body()))}

    serve(app)


def bare() -> None:
    answer = json.dumps({"verdicts": judge(None, "idle")(torch.zeros(1))}).encode()
    head = {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(answer)),
        ],
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            await send(head)
            await send({"type": "http.response.body", "body": answer})

    serve(app)


def serve(app: Any) -> None:
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Those it accepts inherit this; asyncio itself sets it only where it made the listener.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        threading.Timer(1.0, say, [url]).start()
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off")
        )
        server.run(sockets=[listener])


def say(url: str) -> None:
    print(f"READY {url}", flush=True)


def main() -> None:
    which, case, model = sys.argv[1:4]
    if which == "uvicorn":
        bare()
    else:
        {"buckler": buckler, "fastapi": fastapi}[which](case, model)


if __name__ == "__main__":
    main()
