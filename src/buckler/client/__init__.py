"""The gateway's HTTP client: `Client` waits for answers, `AsyncClient` awaits them."""

from buckler.errors import UsageError

try:
    from buckler.client.asynchronous import AsyncClient
    from buckler.client.blocking import Client
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == "buckler":
        raise
    raise UsageError(
        f"the client needs {error.name}, which is not installed: "
        'pip install -c constraints.txt -e ".[client]"'
    ) from None
from buckler.client.again import Patience
from buckler.client.inputs import Images
from buckler.client.replies import GatewayError
from buckler.client.values import Answer, Decided, Outcome, Review

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "Decided",
    "GatewayError",
    "Images",
    "Outcome",
    "Patience",
    "Review",
]
