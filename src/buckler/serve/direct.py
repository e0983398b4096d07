"""A route that hands the request to its function and the response back: nothing in between."""

from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute


class Direct(APIRoute):
    """FastAPI's route for a function of the request alone.

    What FastAPI does for parameters and return values takes longer than reading 30 numbers, and
    the routes that judge parse by hand anyway.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return cast(Callable[[Request], Coroutine[Any, Any, Response]], self.endpoint)
