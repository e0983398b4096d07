"""Who is at a page: few tries at a password, a cookie for who is in, a token in every form."""

import asyncio
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request, Response

from buckler.errors import UsageError
from buckler.serve.body import read_body
from buckler.serve.quota import Bucket, network
from buckler.serve.refusal import RefusedError, busy
from buckler.store.engine import Store
from buckler.store.users import (
    SESSION_S,
    User,
    check_password,
    close_session,
    find_session,
    open_session,
)

Form = Mapping[str, str]
_PLACES: Final = 10_000
_AT_ONCE: Final = 10
_ADDRESS_PER_S: Final = 0.2
_NAME_PER_S: Final = 0.1
_CHECKS: Final = 2
_WAITING: Final = 16
_FORM_BYTES: Final = 64 * 1024
_FORM_FIELDS: Final = 32
_FORM_S: Final = 10.0
_NAME: Final = 200
_VISIT: Final = re.compile("[0-9a-f]{32}")


class Throttle:
    """Few failures from one address, and few at one name, whoever asks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    def take(self, address: str, name: str) -> None:
        """Before a password is checked. Raises: RefusedError 429 if too many failed."""
        for which, what, rate in _both(address, name):
            now = self._clock()
            bucket = self._buckets.pop((which, what), None)
            bucket = bucket or Bucket(rate, _AT_ONCE, _AT_ONCE, now)
            self._buckets[which, what] = bucket
            if len(self._buckets) > _PLACES:
                self._buckets.popitem(last=False)
            if wait := bucket.take(1, now):
                raise busy(f"too many passwords were wrong for this {which}", wait, "login")

    def give_back(self, address: str, name: str) -> None:
        """It was right."""
        for which, what, _ in _both(address, name):
            if bucket := self._buckets.get((which, what)):
                bucket.tokens = min(bucket.size, bucket.tokens + 1)


def _both(address: str, name: str) -> tuple[tuple[str, str, float], ...]:
    return (("address", network(address), _ADDRESS_PER_S), ("name", name, _NAME_PER_S))


class Door:
    """Lets people in and out.

    Args:
        signing: secrets of sessions and forms; the first signs, all are accepted.
        https: cookies travel over TLS only.

    Raises: UsageError for no secret, or a short one.
    """

    def __init__(
        self, store: Store, signing: Sequence[bytes], https: bool, throttle: Throttle
    ) -> None:
        if not signing or any(len(each) < 16 for each in signing):
            raise UsageError("pages need one or more secrets of 16 bytes or more to sign sessions")
        self._store = store
        self._signing = tuple(signing)
        self._https = https
        self._throttle = throttle
        self._checks = asyncio.Semaphore(_CHECKS)
        self._checking = 0

    @property
    def _session(self) -> str:
        return "__Host-buckler" if self._https else "buckler"

    @property
    def _visit(self) -> str:
        return "__Host-buckler-visit" if self._https else "buckler-visit"

    async def user(self, request: Request) -> User | None:
        """Who is logged in."""
        token = request.cookies.get(self._session, "")
        if not token:
            return None
        return await asyncio.to_thread(find_session, self._store, token, time.time(), self._signing)

    async def log_in(self, request: Request, form: Form, answer: Response) -> User | None:
        """Check name and password; on success `answer` carries the cookie.

        Raises: RefusedError 429 after too many failures, or while many passwords are checked.
        """
        address = request.client.host if request.client else ""
        name, password = form.get("name", "").strip()[:_NAME], form.get("password", "")
        self._throttle.take(address, name)
        if self._checking >= _WAITING:
            raise busy("many people are logging in", 5, "login")
        self._checking += 1
        try:
            # Each takes 64 MiB and a fifth of a second of a processor.
            async with self._checks:
                user = await asyncio.to_thread(check_password, self._store, name, password)
        finally:
            self._checking -= 1
        if user is None:
            return None
        self._throttle.give_back(address, name)
        old = request.cookies.get(self._session)
        token = await asyncio.to_thread(self._open, user, old)
        self._set(answer, self._session, token, int(SESSION_S))
        return user

    async def log_out(self, request: Request, answer: Response) -> None:
        token = request.cookies.get(self._session, "")
        await asyncio.to_thread(close_session, self._store, token)
        self._set(answer, self._session, "", 0)

    def visit(self, request: Request) -> str:
        """What the form of someone who is not logged in is bound to."""
        found = request.cookies.get(self._visit, "")
        return found if _VISIT.fullmatch(found) else secrets.token_hex(16)

    def remember(self, visit: str, answer: Response) -> None:
        self._set(answer, self._visit, visit, int(SESSION_S))

    def token(self, request: Request, visit: str = "") -> str:
        """A token for a form of this session, or of this visit before there is one; each time
        another, so that a compressed page does not tell it."""
        nonce = secrets.token_hex(16)
        return f"{nonce}.{_mac(self._signing[0], nonce, visit or self._bound(request))}"

    def check(self, request: Request, form: Form, *, visit: bool = False) -> None:
        """Raises: RefusedError 403 if the form is not from a page that we gave this browser."""
        bound = request.cookies.get(self._visit, "") if visit else self._bound(request)
        nonce, _, mac = form.get("token", "").partition(".")
        shown = mac.encode()
        good = [hmac.compare_digest(_mac(s, nonce, bound).encode(), shown) for s in self._signing]
        elsewhere = request.headers.get("sec-fetch-site", "same-origin") != "same-origin"
        if not bound or not any(good) or elsewhere:
            raise RefusedError(
                403, "this form is too old, or was not sent from a page of this gateway: reload it"
            )

    def _bound(self, request: Request) -> str:
        return request.cookies.get(self._session, "")

    def _open(self, user: User, old: str | None) -> str:
        if old:
            close_session(self._store, old)
        return open_session(self._store, user, time.time(), self._signing)

    def _set(self, answer: Response, name: str, value: str, seconds: int) -> None:
        answer.set_cookie(
            name,
            value,
            max_age=seconds,
            path="/",
            secure=self._https,
            httponly=True,
            samesite="strict",
        )


async def read_form(request: Request) -> Form:
    """The fields of a plain form. Raises: RefusedError 400, 408, 413 or 415."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RefusedError(415, "a page's form is sent as application/x-www-form-urlencoded")
    try:
        async with asyncio.timeout(_FORM_S):
            content = await read_body(request, _FORM_BYTES)
    except TimeoutError:
        raise RefusedError(408, "the form was not there in time: send it again") from None
    try:
        text = bytes(content).decode()
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FORM_FIELDS)
    except ValueError:
        raise RefusedError(400, "the form cannot be read: reload the page") from None
    if any("\0" in value for _, value in pairs):
        raise RefusedError(400, "the form holds a character that cannot be kept")
    return dict(pairs)


def _mac(secret: bytes, nonce: str, bound: str) -> str:
    return hmac.new(secret, f"form {nonce} {bound}".encode(), "sha256").hexdigest()
