"""A route that hands the request to its function and the response back: nothing in between."""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send


class Direct(APIRoute):
    """FastAPI's route for a function of the request alone.

    What FastAPI does for parameters, return values and what is to be closed takes longer than
    reading 30 numbers, and the routes that judge parse by hand anyway. `gate` takes the short way.
    """


def straight(function: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """The function as an ASGI app; its errors are for the frame around all routes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await function(Request(scope, receive, send))
        await response(scope, receive, send)

    return app
