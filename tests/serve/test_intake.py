"""Bodies are cut off while they arrive, and slow ones give up their place."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import FastAPI

from buckler.guard import Guard
from buckler.serve import create_app

from .tiny import CLASSIFY, settings

Message = dict[str, Any]


def started(guard: Guard, **given: object) -> FastAPI:
    """A gateway that answers without a server."""
    app = create_app(guard, settings(**given), log=False)
    app.state.runner.start()
    return app


async def post(app: FastAPI, receive: Callable[[], Any], **headers: str) -> tuple[int, str]:
    """Status and sentence of one raw ASGI request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    pairs = {"content-type": "image/png", **headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": CLASSIFY,
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in pairs.items()],
        "query_string": b"",
    }
    await app(scope, receive, send)
    return sent[0]["status"], orjson.loads(sent[1]["body"])["error"]


def test_an_endless_body_is_cut_off(guard: Guard) -> None:
    app = started(guard, max_body_bytes=1000)
    asked = 0

    async def endless() -> Message:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 300, "more_body": True}

    status, sentence = asyncio.run(post(app, endless))
    assert (status, asked) == (413, 4)
    assert sentence == "the body may have at most 1000 bytes: send fewer rows at once"


def test_a_body_said_to_be_too_large_is_not_read(guard: Guard) -> None:
    app = started(guard, max_body_bytes=1000)

    async def never() -> Message:
        raise AssertionError("the body was read")

    assert asyncio.run(post(app, never, content_length="1001"))[0] == 413


def test_a_slow_body_gives_up_at_the_deadline(guard: Guard) -> None:
    app = started(guard, deadline_s=0.05)

    async def silent() -> Message:
        await asyncio.sleep(60)
        raise AssertionError("it waited")

    status, sentence = asyncio.run(post(app, silent))
    assert (status, sentence) == (408, "the body was not there in time: send it faster")


def test_slow_bodies_take_a_bounded_number_of_places(guard: Guard) -> None:
    app = started(guard, deadline_s=0.5, max_body_bytes=10, max_reading_bytes=20)

    async def silent() -> Message:
        await asyncio.sleep(60)
        raise AssertionError("it waited")

    async def three() -> list[int]:
        found = await asyncio.gather(*(post(app, silent) for _ in range(3)))
        return [status for status, _ in found]

    assert asyncio.run(three()) == [408, 408, 429]
    assert asyncio.run(three()) == [408, 408, 429], "the places are free again"


def test_a_caller_that_hangs_up_is_no_failure_of_ours(guard: Guard) -> None:
    app = started(guard)

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    assert asyncio.run(post(app, gone)) == (400, "the body ended before it was whole")
