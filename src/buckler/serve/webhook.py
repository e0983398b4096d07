"""Webhooks: what happened, sent to one URL of the operator's and signed.

The signature is that of the Standard Webhooks specification (standardwebhooks.com), so that
receivers find libraries for it: HMAC-SHA256 over id, time and body.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import SplitResult, urlsplit

from buckler.errors import BucklerError, PolicyError, UsageError
from buckler.serve.settings import Settings
from buckler.store.outbox import Message

_MARK: Final = "whsec_"
_TIMEOUT_S: Final = 10.0
_LEAST: Final = 24  # bytes of a secret
_IN_IPV6: Final = ipaddress.IPv6Network("64:ff9b::/96")  # where a NAT64 shows IPv4
_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotTakenError(BucklerError):
    """The receiver did not take a message."""


@dataclass(frozen=True)
class Webhook:
    """Where messages go.

    Args:
        secrets: each signs, so that a receiver may change from one to the next.
        private: it may be an address of this machine or of a private network. Else not, and only
            through TLS: whoever can set a name's address could otherwise have this gateway speak to
            what only it can reach.
    """

    url: str = field(repr=False)
    secrets: tuple[bytes, ...] = field(repr=False)
    private: bool = False

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    def addresses(self) -> list[str]:
        """Where it is now. Raises: PolicyError if it may not be there; OSError for no such name."""
        place = self.parts
        found = socket.getaddrinfo(place.hostname, _port(place), type=socket.SOCK_STREAM)
        ips = [str(each[4][0]) for each in found]
        if not self.private and not all(map(is_public, ips)):
            raise PolicyError(
                f"the webhook's host {place.hostname} is at an address that is not public: "
                "set BUCKLER_WEBHOOK_PRIVATE=true if it should be"
            )
        return ips


def webhook_of(settings: Settings) -> Webhook | None:
    """The webhook of the settings; None without one.

    Raises: UsageError for a URL or a secret that cannot be; PolicyError for a place where it may
        not be.
    """
    if settings.webhook is None:
        return None
    secrets = tuple(map(_secret, settings.webhook_secret.get_secret_value().split(",")))
    return to_url(settings.webhook.get_secret_value(), secrets, settings.webhook_private)


def secrets_of(settings: Settings) -> tuple[bytes, ...]:
    """What signs; () where none is set. Raises: UsageError."""
    given = settings.webhook_secret.get_secret_value()
    return tuple(map(_secret, given.split(","))) if given else ()


def to_url(url: str, secrets: tuple[bytes, ...], private: bool) -> Webhook:
    """Raises: UsageError for a URL that cannot be; PolicyError for a place where it may not be."""
    schemes = ("https", "http") if private else ("https",)
    try:
        place = urlsplit(url)
        plain = url.isascii() and url.isprintable() and " " not in url
        good = plain and place.scheme in schemes and bool(place.hostname) and place.port != 0
    except ValueError:
        good = False
    if not good or place.username or place.password or place.fragment:
        allowed = " or ".join(f"{scheme}://HOST/PATH" for scheme in schemes)
        raise UsageError(f"the webhook must be {allowed}, without a user or a fragment")
    made = Webhook(url, secrets, private)
    with contextlib.suppress(OSError):  # the name may be known later
        made.addresses()
    return made


def is_public(address: str) -> bool:
    """Whether anyone on the internet can reach this address, and so it is no secret way in.

    >>> is_public("127.0.0.1"), is_public("::ffff:10.0.0.1"), is_public("8.8.8.8")
    (False, False, True)
    """
    ip: _Ip = ipaddress.ip_address(address)
    inside: _Ip | None = None
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _IN_IPV6:
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is not None:
            ip = inside
    return ip.is_global and not ip.is_multicast


def send(webhook: Webhook, message: Message, now: float) -> None:
    """Send what happened, signed. Raises: NotTakenError unless the receiver answers 2xx."""
    body = json.dumps(
        {
            "type": message.kind,
            "timestamp": datetime.fromtimestamp(message.at, UTC).isoformat(),
            "data": dict(message.body),
        }
    ).encode()
    post(webhook, body, signed(webhook.secrets, message, body, now))


def post(webhook: Webhook, body: bytes, headers: Mapping[str, str]) -> None:
    """Send it once; no redirect is followed, no proxy asked.

    Raises: NotTakenError unless the receiver answers 2xx.
    """
    place = webhook.parts
    path = (place.path or "/") + (f"?{place.query}" if place.query else "")
    try:
        address = webhook.addresses()[0]
        connection = http.client.HTTPConnection(str(place.hostname), _port(place))
        connection.sock = _connected(place, address)
        try:
            connection.request("POST", path, body, {"host": place.netloc, **headers})
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, PolicyError) as error:
        raise NotTakenError(f"the webhook's receiver cannot be reached: {error}") from error
    if not 200 <= status < 300:
        raise NotTakenError(f"the webhook's receiver answered with status {status}")


def signed(
    secrets: tuple[bytes, ...], message: Message, body: bytes, now: float
) -> Mapping[str, str]:
    """The headers of a message: the same id however often it is sent, and who sent it."""
    name, at = f"msg_{message.id}_{int(1000 * message.at)}", str(int(now))
    what = f"{name}.{at}.".encode() + body
    each = [base64.b64encode(hmac.digest(secret, what, hashlib.sha256)) for secret in secrets]
    return {
        "content-type": "application/json",
        "user-agent": "buckler",
        "webhook-id": name,
        "webhook-timestamp": at,
        "webhook-signature": " ".join(f"v1,{mark.decode()}" for mark in each),
    }


def _connected(place: SplitResult, address: str) -> socket.socket:
    """To that very address: asked again, a name may give another."""
    raw = socket.create_connection((address, _port(place)), _TIMEOUT_S)
    if place.scheme == "http":
        return raw
    try:
        context = ssl.create_default_context()
        return context.wrap_socket(raw, server_hostname=place.hostname)
    except BaseException:
        raw.close()
        raise


def _port(place: SplitResult) -> int:
    return place.port or {"http": 80, "https": 443}[place.scheme]


def _secret(text: str) -> bytes:
    try:
        found = base64.b64decode(text.removeprefix(_MARK), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not text.startswith(_MARK) or len(found) < _LEAST:
        raise UsageError(
            f"the webhook's secret must be {_MARK} and base64 of {_LEAST} bytes or more, several "
            "with commas between: echo whsec_$(openssl rand -base64 32)"
        )
    return found
