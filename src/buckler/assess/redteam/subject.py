"""What a red team may attack: an endpoint on the operator's list, or a classifier held here."""

import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from buckler.errors import BudgetError, PolicyError
from buckler.inputs import InputSpec
from buckler.models import Endpoint, RemoteClassifier
from buckler.models.endpoint import Reply, authorization, over_http
from buckler.models.remote import is_v2
from buckler.protocols import Classifier

_MOST_ROWS = 64  # a call
_MOST_VALUES = 100_000  # a call
_SECONDS = 2.0  # of a slow rate that one call may take


@dataclass(frozen=True)
class Subject:
    """A classifier as outsiders see it.

    source: how a person names it, the same from month to month: a URL, a folder, a model.
    identity: hash or digest of what answers, as far as it is known before it is asked.
    model: x → logits (n, k), or (n, k + 1) where the last class is "rejected".
    chunk: rows it is asked about at a time.
    meter: of an endpoint.
    """

    source: str
    identity: str
    model: Classifier
    spec: InputSpec
    rejects: bool = False
    chunk: int = _MOST_ROWS
    meter: "Meter | None" = None

    @property
    def digest(self) -> str:
        """Of the bundle that answers; of an endpoint the one it named last, "" if none."""
        model = self.model
        return model.digest if isinstance(model, RemoteClassifier) else self.identity

    @property
    def decisions(self) -> bool:
        """Whether bare decisions come back, which hide the way."""
        return isinstance(self.model, RemoteClassifier) and self.model.scores == "decisions"


class Meter:
    """An endpoint that sends no more than `limit` rows, those it has to send again included."""

    def __init__(self, rate: float, headers: Mapping[str, str]) -> None:
        self.limit: int | None = None
        self.endpoint = Endpoint(headers=headers, rows_per_second=rate, transport=self._send)

    def _send(
        self, url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Reply:
        if self.limit is not None and body is not None and self.endpoint.sent > self.limit:
            raise BudgetError(f"the budget of {self.limit} queries is spent on an endpoint's tries")
        return over_http(url, body, headers, timeout_s)


def endpoint(url: str, spec: InputSpec, *, rate: float, hosts: Sequence[str] = ()) -> Subject:
    """The model or gateway at `url`.

    Args:
        rate: rows a second, at most; 0: as fast as it goes.
        hosts: that may be attacked, beside this machine's loopback.

    Raises: PolicyError for any other host; UsageError for a URL of another form.
    """
    check_host(url, hosts)
    url = url.rstrip("/")
    meter = Meter(rate, authorization())
    chunk = max(1, min(_MOST_ROWS, _MOST_VALUES // math.prod(spec.shape)))
    if rate:
        chunk = max(1, min(chunk, int(_SECONDS * rate)))
    remote = RemoteClassifier(
        url, spec, "v2" if is_v2(url) else "classify", max_rows=chunk, endpoint=meter.endpoint
    )
    return Subject(url, url, remote, spec, remote.rejects, chunk, meter)


def check_host(url: str, hosts: Sequence[str]) -> None:
    """Raises: PolicyError if the URL's host is neither loopback nor on the list."""
    host = (urlsplit(url).hostname or "").lower()
    if host in {"localhost", *(name.lower() for name in hosts)}:
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise PolicyError(
        f"the host {host!r} is not on the list of hosts that may be attacked. With its owner's "
        f'consent, add it to buckler.toml: [redteam] hosts = ["{host}"]'
    )
