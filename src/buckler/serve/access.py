"""Who may call what: one table of routes and roles, and a gate before every route."""

import ipaddress
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from buckler.errors import UsageError
from buckler.ops.access import ROLES, Key, KeyRing, Role, find_key
from buckler.serve.direct import Direct, straight
from buckler.serve.head import head_of
from buckler.serve.quota import Quota
from buckler.serve.refusal import RefusedError

OPEN = "open"
PAGE = "page"
READ = "review or operate"

PAGES: Mapping[str, str] = {
    "GET /login": OPEN,
    "POST /login": OPEN,
    "POST /logout": PAGE,
    "GET /queue": PAGE,
    "GET /review": PAGE,
    "GET /review/{review_id}": PAGE,
    "GET /review/{review_id}/input": PAGE,
    "GET /review/{review_id}/picture/{number}": PAGE,
    "GET /review/{review_id}/difference/{number}": PAGE,
    "POST /review/{review_id}/first": PAGE,
    "POST /review/{review_id}/decide": PAGE,
    "POST /review/{review_id}/renew": PAGE,
    "POST /review/{review_id}/release": PAGE,
    "POST /review/{review_id}/undo": PAGE,
    "GET /assets/{name}": OPEN,
    "GET /dashboard": PAGE,
    "GET /dashboard/attacks": PAGE,
    "GET /dashboard/confidence": PAGE,
    "GET /dashboard/rollout": PAGE,
    "POST /dashboard/rollout/{verb}": PAGE,
    "GET /dashboard/load": PAGE,
    "GET /dashboard/impact": PAGE,
    "GET /dashboard/alerts": PAGE,
    "POST /dashboard/alerts/{alert_id}": PAGE,
    "GET /dashboard/clients": PAGE,
    "GET /dashboard/bundle": PAGE,
    "GET /dashboard/plotly.js": PAGE,
    "GET /events": PAGE,
}
"""The pages for people, where there is a store. PAGE: whoever logged in and has the role: review,
for the dashboard operate or admin too, and operate to act there. `pages.py` asks for the cookie
before every one of them, and no key counts there."""

ROUTES: Mapping[str, Role | str] = {
    "GET /v2/health/live": OPEN,
    "GET /v2/health/ready": OPEN,
    "POST /v1/classify": "infer",
    "GET /v2": "infer",
    "GET /v2/models": "infer",
    "GET /v2/models/{model}": "infer",
    "GET /v2/models/{model}/ready": OPEN,
    "POST /v2/models/{model}/infer": "infer",
    "GET /v2/models/{model}/versions/{version}": "infer",
    "GET /v2/models/{model}/versions/{version}/ready": OPEN,
    "POST /v2/models/{model}/versions/{version}/infer": "infer",
    "GET /docs": "infer",
    "GET /docs/style.css": OPEN,
    "GET /openapi.json": "infer",
    "HEAD /openapi.json": "infer",
    "GET /metrics": "metrics",
    "GET /v1/suspects": "operate",
    "GET /v1/verdicts/{review_id}": "infer",
    "GET /v1/reviews": "review",
    "GET /v1/reviews/stats": "review",
    "GET /v1/reviews/export": "review",
    "POST /v1/reviews/next": "review",
    "GET /v1/reviews/{review_id}": "review",
    "GET /v1/reviews/{review_id}/input": "review",
    "POST /v1/reviews/{review_id}/first": "review",
    "POST /v1/reviews/{review_id}/renew": "review",
    "POST /v1/reviews/{review_id}/release": "review",
    "POST /v1/reviews/{review_id}/decision": "review",
    "POST /v1/reviews/{review_id}/undo": "review",
    "GET /v1/rollouts": READ,
    "POST /v1/rollouts": "operate",
    "GET /v1/rollouts/{rollout_id}": READ,
    "GET /v1/rollouts/{rollout_id}/metrics": READ,
    "POST /v1/rollouts/{rollout_id}/{verb}": "operate",
    "POST /v1/rollouts/hooks/confirm-promotion": READ,
    "POST /v1/rollouts/hooks/rollback": READ,
    "GET /v1/alerts": "operate",
    "POST /v1/alerts": "operate",
    "POST /v1/alerts/{alert_id}/acknowledge": "operate",
    **PAGES,
}
"""Method and path → the one role that may call it (READ: one of two), OPEN for anyone, or PAGE.
Every route stands here."""


@dataclass(frozen=True)
class Caller:
    """Who calls: the id of a key, or "local" where there are no keys."""

    id: str
    roles: frozenset[Role]
    key: Key | None = None


LOCAL = Caller("local", frozenset(ROLES) - {"admin"})


@dataclass(frozen=True)
class Access:
    """Who a caller is, by key; without any keys, all of this machine but nobody is an admin.

    Args:
        admit: asked before an input is read; raises RefusedError if none can be taken now.
    """

    keys: KeyRing | None
    quota: Quota
    admit: Callable[[Caller], None]

    def caller(self, scope: Scope) -> Caller:
        """Raises: RefusedError 401 for no key or a bad one, 429 for too many bad ones."""
        address = scope["client"][0] if scope.get("client") else ""
        if self.keys is None:
            if _is_far(address):
                raise _who("this gateway has no keys, so it answers its own machine only")
            head = head_of(scope)
            if _from_a_page(head.get("host", ""), head.get("origin")):
                raise RefusedError(
                    403,
                    "without keys no page of another site may call: use http://127.0.0.1, or keys",
                )
            return LOCAL
        given = _given(head_of(scope))
        key = find_key(self.keys, given, time.time())
        if key is None:
            if given:
                self.quota.failed_key(address)
            raise _who("this key is unknown, expired or revoked" if given else "a key is needed")
        return Caller(key.id, key.roles, key)


@dataclass(frozen=True)
class Gate:
    """ASGI before one route: only callers with its role pass, and get their name in the state."""

    app: ASGIApp
    roles: Mapping[str, Role | str]
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        role = self.roles[scope["method"]]
        if role not in (OPEN, PAGE):
            caller = self.access.caller(scope)
            state = scope["state"]
            state["caller"] = caller
            state["trace"].key_id = caller.id
            state["trace"].roles = caller.roles
            if caller.roles.isdisjoint(role.split(" or ")):
                raise RefusedError(403, f"this needs the role {role}, which this caller has not")
            if role == "infer" and scope["method"] == "POST":
                self.access.admit(caller)
        await self.app(scope, receive, send)


def gate(app: FastAPI, access: Access, routes: Mapping[str, Role | str] = ROUTES) -> None:
    """Put every route of `app` behind its entry in `routes`. Call it when all routes are there.

    Raises: UsageError for a route that is not in the table, or cannot be.
    """
    for route in app.router.routes:
        # What cannot be looked up cannot be guarded: a mount, a router within the router.
        if not isinstance(route, Route) or not route.methods:
            raise UsageError(f"{_named(route)} has no entry in the table of routes and roles")
        missing = [m for m in sorted(route.methods) if f"{m} {route.path}" not in routes]
        if missing:
            raise UsageError(
                f"the route {missing[0]} {route.path} has no entry in the table of routes and roles"
            )
        roles = {method: routes[f"{method} {route.path}"] for method in route.methods}
        inner = straight(route.endpoint) if isinstance(route, Direct) else route.app
        route.app = Gate(inner, roles, access)


def check_gates(app: FastAPI) -> None:
    """Raises: UsageError if a route was added behind the gates' back."""
    for route in app.router.routes:
        if not isinstance(getattr(route, "app", None), Gate):
            raise UsageError(f"{_named(route)} was added after the gates were put up")


def _named(route: BaseRoute) -> str:
    return f"the route {getattr(route, 'path', type(route).__name__)}"


def _given(headers: Mapping[str, str]) -> str:
    """The key a caller sent; "" for none.

    Raises: RefusedError 401 for two that differ: one of them may have come from someone else.
    """
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    bearer = bearer.strip() if scheme.lower() == "bearer" else ""
    plain = headers.get("x-api-key", "").strip()
    if bearer and plain and bearer != plain:
        raise _who("Authorization and X-API-Key hold different keys")
    return bearer or plain


def _who(sentence: str) -> RefusedError:
    return RefusedError(
        401,
        f"{sentence}: send one as Authorization: Bearer KEY or X-API-Key: KEY",
        headers={"www-authenticate": 'Bearer realm="buckler"'},
    )


@lru_cache(64)  # a caller says the same each time
def _from_a_page(said: str, sent_by: str | None) -> bool:
    """Whether a browser on this machine may have been sent here by someone else's page: from
    another origin, or by a name that its owner lets point to this machine (DNS rebinding)."""
    try:
        host = urlsplit(f"//{said}")
        origin = urlsplit(f"//{host.netloc}" if sent_by is None else sent_by)
        name = host.hostname or ""
    except ValueError:
        return True
    # A name without a dot belongs to this network.
    named = "." in name and not name.endswith(".localhost") and not _is_address(name)
    return origin.netloc != host.netloc or named


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(1024)
def _is_far(address: str) -> bool:
    """Whether a network brought it. A caller without an address is in this process."""
    try:
        return not ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
