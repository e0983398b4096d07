"""Pages for people: log in, see the queue, review. Made here, nothing comes from another host."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

import jinja2
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from buckler.errors import BucklerError, ConflictError, StoreDownError
from buckler.guard import Guard
from buckler.look import stylesheet
from buckler.ops.access import ROLES, Role
from buckler.serve.door import Door, Form, Throttle, read_form
from buckler.serve.looker import Looker
from buckler.serve.refusal import UNFORESEEN, RefusedError
from buckler.serve.reviewing import Answer, Reviewing, Visit
from buckler.store.engine import Store

Handler = Callable[[Visit], Awaitable[Answer]]
MAY_LOAD: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    # With no-referrer, which is for all other answers, a browser calls its own forms foreign.
    "referrer-policy": "same-origin",
}
_ASSETS: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "dash.css": "text/css",
    "dash.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
DASHBOARD: Final = "/dashboard"
_AFTER_LOGIN: Final = re.compile(r"/(queue|review(/[0-9a-f]{1,64})?|dashboard(/[a-z]{1,20})?)")
_GONE: Final = "you are not logged in any more: log in, and send it again"
_NOT_YOURS: Final = "this needs the role {}, which you have not: ask an administrator"


def add_pages(
    app: FastAPI,
    guard: Guard,
    store: Store,
    *,
    signing: Sequence[bytes],
    https: bool = False,
    known: bytes = b"",
) -> None:
    """Put up the pages; `access.PAGES` lists them. Call it before the gates.

    Args:
        signing: secrets of sessions and forms, 16 bytes or more each. The first one signs, all are
            accepted: put a new one first, drop the old one eight hours later. All processes that
            share the store need the same.
        https: people come through TLS: their cookies travel over nothing else.
        known: decides which turns bring an item whose answer is known; as secret as the rest.

    Raises: UsageError for no secret, or a short one.
    """
    shell = Shell(Door(store, signing, https, Throttle()), environment())
    reviewing = Reviewing(guard, store, Looker(guard, store.blobs), known)
    pages: dict[str, Handler] = {
        "GET /queue": reviewing.queue,
        "GET /review": reviewing.next,
        "GET /review/{review_id}": reviewing.one,
        "GET /review/{review_id}/input": reviewing.original,
        "GET /review/{review_id}/picture/{number}": reviewing.picture,
        "GET /review/{review_id}/difference/{number}": reviewing.difference,
        "POST /review/{review_id}/first": reviewing.first,
        "POST /review/{review_id}/decide": reviewing.decide,
        "POST /review/{review_id}/renew": reviewing.renew,
        "POST /review/{review_id}/release": reviewing.release,
        "POST /review/{review_id}/undo": reviewing.undo,
    }
    for place, handler in pages.items():
        put(app, place, shell.inside(handler))
    put(app, "POST /logout", shell.inside(shell.log_out, ROLES))
    put(app, "GET /login", shell.outside(shell.login_page))
    put(app, "POST /login", shell.outside(shell.log_in))
    put(app, "GET /assets/{name}", shell.outside(_asset))


def put(app: FastAPI, place: str, answer: Callable[[Request], Awaitable[Response]]) -> None:
    method, _, path = place.partition(" ")

    async def endpoint(request: Request) -> Response:
        request.state.trace.route = path
        return await answer(request)

    app.add_api_route(
        path, endpoint, methods=[method], include_in_schema=False, response_model=None
    )


@dataclass(frozen=True)
class Shell:
    """What is the same around every page: who is there, the frame, sentences instead of errors."""

    door: Door
    templates: jinja2.Environment

    def inside(
        self, handler: Handler, roles: Sequence[Role] = ("review",)
    ) -> Callable[[Request], Awaitable[Response]]:
        """For who logged in and has one of the roles; a form only with its token."""

        async def answer(request: Request) -> Response:
            user = await self.door.user(request)
            if user is None:
                if request.method == "POST":
                    raise RefusedError(401, _GONE)
                return _to_login(request.url.path)
            request.state.trace.key_id = user.name
            if user.roles.isdisjoint(roles):
                raise RefusedError(403, _NOT_YOURS.format(" or ".join(roles)))
            form: Form = {}
            if request.method == "POST":
                form = await read_form(request)
                self.door.check(request, form)
            found = await handler(Visit(request, user, form, time.time()))
            if isinstance(found, Response):
                return found
            facts = {"user": user, "token": self.door.token(request), **found.facts}
            page = self.page(found.template, found.status, facts)
            page.headers.update(found.headers)
            return page

        return self.outside(answer)

    def outside(
        self, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """For anyone: whatever goes wrong is a sentence on a page, with a way on."""

        async def answer(request: Request) -> Response:
            try:
                found = await handler(request)
            except Exception as error:
                found = self._told(request, error)
            for name, value in MAY_LOAD.items():
                found.headers.setdefault(name, value)
            return found

        return answer

    def page(self, template: str, status: int, facts: Mapping[str, Any]) -> HTMLResponse:
        return HTMLResponse(self.templates.get_template(template).render(facts), status)

    async def login_page(self, request: Request) -> Response:
        return self._login(request, 200, "", request.query_params.get("next", ""))

    async def log_in(self, request: Request) -> Response:
        form = await read_form(request)
        self.door.check(request, form, visit=True)
        onward = _onward(form.get("next", ""))
        answer = RedirectResponse(onward, 303)
        user = await self.door.log_in(request, form, answer)
        if user is not None:
            if "review" not in user.roles and not onward.startswith(DASHBOARD):
                answer.headers["location"] = DASHBOARD
            return answer
        request.state.trace.refusal = "login"
        return self._login(request, 401, "that is not the name and password of anyone here", onward)

    async def log_out(self, visit: Visit) -> Answer:
        answer = RedirectResponse("/login", 303)
        await self.door.log_out(visit.request, answer)
        return answer

    def _login(self, request: Request, status: int, wrong: str, onward: str) -> Response:
        visit = self.door.visit(request)
        facts = {"token": self.door.token(request, visit), "wrong": wrong, "next": _onward(onward)}
        answer = self.page("login.html", status, facts)
        self.door.remember(visit, answer)
        return answer

    def _told(self, request: Request, error: Exception) -> Response:
        trace = request.state.trace
        status, sentence = _status(error), str(error)
        headers: Mapping[str, str] = {}
        if isinstance(error, RefusedError):
            trace.refusal, trace.failure, headers = error.reason, error.__cause__, error.headers
        elif status == 500:
            trace.failure, sentence = error, UNFORESEEN
        elif isinstance(error, StoreDownError):
            trace.failure = error
        login = status == 401 or request.url.path == "/login"
        way = ("/login", "Log in") if login else ("/review", "Next item")
        if request.url.path.startswith(DASHBOARD) and not login:
            way = (DASHBOARD, "Dashboard")
        facts = {"sentence": sentence, "way": way, "status": status}
        answer = self.page("told.html", status, facts)
        answer.headers.update(headers)
        return answer


def _status(error: Exception) -> int:
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, ConflictError):
        return 409
    if isinstance(error, (StoreDownError, TimeoutError)):
        return 503
    return 400 if isinstance(error, BucklerError) else 500


def _to_login(path: str) -> Response:
    return RedirectResponse(f"/login?next={quote(_onward(path))}", 303)


def _onward(path: str) -> str:
    """Where to go after the login: one of our pages, whatever was asked."""
    return path if _AFTER_LOGIN.fullmatch(path) else "/queue"


async def _asset(request: Request) -> Response:
    name = str(request.path_params["name"])
    if name not in _ASSETS:
        raise RefusedError(404, "there is no such file")
    content = _source(name)
    return Response(
        stylesheet() + content if name == "page.css" else content, media_type=_ASSETS[name]
    )


def environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    return files("buckler.serve").joinpath("pages", name).read_text(encoding="utf-8")
