"""What the blocking and the asynchronous client share of httpx2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import httpx2

from buckler.client import calls
from buckler.client.replies import Broken, Reply
from buckler.errors import DataError

# A gateway ends a connection that was idle for 5 s: never meet it halfway.
LIMITS: Final = httpx2.Limits(max_connections=100, keepalive_expiry=4.0)
TOO_LONG: Final = Broken("it did not answer within the deadline")
TOO_LARGE: Final = Broken("it answered more than 64 MiB")


def request_of(call: calls.Call[Any], timeout_s: float) -> dict[str, Any]:
    """The arguments of httpx2's `stream`."""
    return {
        "method": call.method,
        "url": call.path,
        "content": call.body or None,
        "headers": {**call.headers, "x-request-id": call.request_id},
        "timeout": timeout_s,
    }


def head_of(response: httpx2.Response, body: bytes | bytearray = b"") -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, bytes(body))


def broken(error: httpx2.HTTPError) -> Broken:
    """What an exception means: did the gateway have the request?"""
    unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    return Broken(f"{type(error).__name__}: {error}".rstrip(": "), sent=not unsent)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to fill that appears at `path` whole or not at all.

    Raises: DataError if it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as stream:
            yield stream
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
