"""Asking an HTTP endpoint: no faster than allowed, again when it is busy, every row counted."""

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from buckler.errors import UsageError

_KEY = "BUCKLER_ENDPOINT_AUTHORIZATION"

_BUSY = (429, 503)
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 60.0
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Reply:
    """What came back; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Transport = Callable[[str, bytes | None, Mapping[str, str], float], Reply]
"""(url, body or None for GET, headers, timeout in seconds) → reply. Raises: OSError."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect would carry keys to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


def over_http(url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float) -> Reply:
    """The transport of the standard library. Any status is a reply; redirects are not followed."""
    request = urllib.request.Request(url, body, dict(headers))
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=timeout_s) as answer:
            return _reply(answer.status, dict(answer.headers), answer.read(_MOST_BYTES + 1))
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, dict(error.headers), error.read(_MOST_BYTES + 1))
    except (http.client.HTTPException, UnicodeError) as error:  # UnicodeError: a host like a..b
        raise ConnectionError(f"{type(error).__name__}: {error}") from None


def _reply(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    return Reply(status, {name.lower(): value for name, value in headers.items()}, body)


def authorization() -> dict[str, str]:
    """The header Authorization, if the variable BUCKLER_ENDPOINT_AUTHORIZATION is set."""
    key = os.environ.get(_KEY)
    return {} if key is None else {"Authorization": key}


class Endpoint:
    """One server and what was asked of it so far. Safe for threads.

    Args:
        headers: sent with each request (a key, for example); never shown.
        timeout_s: of one request.
        tries: of one request, while the server is busy (429, 503) or the connection breaks. It
            waits as long as Retry-After says, else 0.25 s, 0.5 s, ..., never over a minute.
        rows_per_second: at most, averaged over requests; 0: as fast as it goes.
        transport, clock, sleep: replaced in tests.

    Attributes: `answered`, rows that an answer came back for: the queries spent. `sent`, rows of
        all requests, those that were tried again too.
    """

    def __init__(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        tries: int = 6,
        rows_per_second: float = 0.0,
        transport: Transport = over_http,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not timeout_s > 0 or tries < 1 or rows_per_second < 0:
            raise UsageError(
                "an endpoint needs timeout_s > 0, tries >= 1 and rows_per_second >= 0 (0: no "
                f"limit). Got {timeout_s}, {tries} and {rows_per_second}"
            )
        for name, value in (headers or {}).items():
            if not (value.isascii() and value.isprintable()):
                raise UsageError(
                    f"the header {name} must be printable ASCII: is there a line break at its end?"
                )
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._timeout_s, self._tries, self._rate = timeout_s, tries, rows_per_second
        self._transport, self._clock, self._sleep = transport, clock, sleep
        self._lock = threading.Lock()
        self._free_at = clock()
        self.answered = self.sent = 0

    def get(self, url: str) -> object:
        """The JSON at `url`. Raises: UsageError if there is none to be had."""
        return self._ask(url, None, 0)

    def post(self, url: str, value: object, rows: int) -> object:
        """The JSON that answers `value`, which asks about so many rows.

        Raises: UsageError if the server refuses it, stays busy or answers no JSON.
        """
        return self._ask(url, json.dumps(value, allow_nan=False).encode(), rows)

    def _ask(self, url: str, body: bytes | None, rows: int) -> object:
        trouble = ""
        for attempt in range(self._tries):
            self._take_turn(rows)
            wait = _FIRST_WAIT_S * 2**attempt
            try:
                reply = self._transport(url, body, self._headers, self._timeout_s)
            except OSError as error:
                trouble = f"{type(error).__name__}: {error}"
            else:
                if reply.status not in _BUSY:
                    found = _json(url, reply)
                    with self._lock:
                        self.answered += rows
                    return found
                trouble = f"status {reply.status}, busy"
                wait = _retry_after(reply, wait)
            if attempt + 1 < self._tries:
                self._sleep(min(wait, _LONGEST_WAIT_S))
        raise UsageError(
            f"{url} gave no answer in {self._tries} tries ({trouble}): is it up, and are fewer "
            "rows a second allowed?"
        )

    def _take_turn(self, rows: int) -> None:
        """Wait until these rows may be sent, and count them."""
        with self._lock:
            self.sent += rows
            now = self._clock()
            start = max(now, self._free_at)
            self._free_at = start + (rows / self._rate if self._rate else 0.0)
        if start > now:
            self._sleep(start - now)


def _json(url: str, reply: Reply) -> object:
    text = reply.body[:200].decode("utf-8", "replace").strip()
    if reply.status != 200:
        raise UsageError(f"{url} refused the request with status {reply.status}: {text}")
    if len(reply.body) > _MOST_BYTES:
        raise UsageError(f"{url} answered more than {_MOST_BYTES} bytes: ask for fewer rows")
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):  # a hostile server nests without end
        raise UsageError(f"{url} must answer JSON. Got {text!r}") from None


def _retry_after(reply: Reply, otherwise: float) -> float:
    """Seconds; a date in that header is rare, and answered with our own wait."""
    given = reply.headers.get("retry-after", "").strip()
    return float(given) if given.isdecimal() else otherwise
