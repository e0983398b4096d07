"""How an alert reaches people: a webhook in Alertmanager's shape, and whatever apprise knows."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from buckler.errors import UsageError
from buckler.ops.alerts import Finding, in_words
from buckler.serve.settings import Settings
from buckler.serve.webhook import NotTakenError, Webhook, post, secrets_of, signed, to_url
from buckler.store.alerts import APPRISE, WEBHOOK, raise_alert
from buckler.store.engine import Store
from buckler.store.monitors import Telling
from buckler.store.outbox import Message


@dataclass(frozen=True)
class Teller:
    """Where alerts go.

    Args:
        urls: of apprise, each under the name of its way.
        base: URL of the guide with the runbook.
    """

    webhook: Webhook | None
    urls: Mapping[str, str] = field(repr=False)
    base: str

    @property
    def telling(self) -> Telling:
        """A way for each place, so that one that is down has nothing sent twice to the others."""
        ways = (WEBHOOK,) if self.webhook is not None else ()
        return Telling((*ways, *self.urls), self.base)

    def send(self, message: Message, now: float) -> None:
        """Raises: NotTakenError unless it was taken."""
        if message.kind != WEBHOOK:
            self._notify(message.kind, message.body)
            return
        if self.webhook is None:
            raise NotTakenError("there is no webhook for alerts any more")
        body = json.dumps(dict(message.body)).encode()
        headers = {"content-type": "application/json", "user-agent": "buckler"}
        if self.webhook.secrets:
            headers = dict(signed(self.webhook.secrets, message, body, now))
        post(self.webhook, body, headers)

    def _notify(self, way: str, body: Mapping[str, Any]) -> None:
        url = self.urls.get(way)
        if url is None:
            raise NotTakenError("this place is not among the alert_urls any more")
        title, text = in_words(body)
        place = _apprise()
        place.add(url)
        if not place.notify(title=title, body=text):
            raise NotTakenError("one of the alert_urls did not take an alert")


def raise_rollout(store: Store, teller: Teller, message: Message, now: float) -> None:
    """What a rollout has to tell becomes a ticket. Told once more by a sender that died, it is the
    same one. Raises: StoreDownError."""
    body, telling = message.body, teller.telling
    finding = Finding(
        key=f"rollout/{body['rollout']}/{body['says']}",
        tier="ticket",
        title=str(body["says"]),
        facts={"rollout": body["rollout"], "candidate": str(body["candidate"])[:12]},
        action="See buckler rollout status: what it lacks, or what spoke against it.",
        runbook="rollout",
        bundle=str(body["candidate"]),
    )
    with store.write() as connection:
        raise_alert(connection, finding, now, telling.ways, telling.base)


def teller_of(settings: Settings) -> Teller:
    """Where the settings send alerts.

    Raises: UsageError for a URL that cannot be, or apprise missing; PolicyError for a webhook at
        a place where it may not be.
    """
    webhook = None
    if settings.alert_webhook is not None:
        url = settings.alert_webhook.get_secret_value()
        webhook = to_url(url, secrets_of(settings), settings.webhook_private)
    urls = {_way(url): url for url in settings.alert_urls.get_secret_value().split()}
    for url in urls.values():
        if not _apprise().add(url):
            scheme = url.partition(":")[0]
            raise UsageError(f"alert_urls must be URLs that apprise knows. Got one of {scheme}:")
    return Teller(webhook, urls, settings.runbooks)


def _way(url: str) -> str:
    return f"{APPRISE}.{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def _apprise() -> Any:
    try:
        import apprise
    except ModuleNotFoundError:
        raise UsageError(
            "alert_urls need apprise, which is not installed: "
            'pip install -c constraints.txt -e ".[notify]"'
        ) from None
    return apprise.Apprise()
