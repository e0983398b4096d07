"""How much a caller may ask: token buckets, counted in rows, in memory bounded by the callers."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from buckler.ops.access import Key
from buckler.serve.refusal import RefusedError, busy

_ADDRESSES = 10_000
_BAD_KEYS_PER_S = 0.2
_BAD_KEYS_AT_ONCE = 10


@dataclass
class Bucket:
    """Tokens that come at `rate` a second up to `size`.

    What is asked for is given once the bucket holds that much, or is full: it may go into debt, so
    that a request larger than the bucket waits longer and is not refused for ever.
    """

    rate: float
    size: float
    tokens: float
    at: float

    def wait(self, count: float, now: float) -> float:
        """Seconds until `count` may be taken; 0: now."""
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.rate)
        self.at = now
        # The rest of a division must not make anyone wait for a billionth of a token.
        missing = min(count, self.size) - self.tokens
        return missing / self.rate if missing > 1e-9 else 0.0

    def take(self, count: float, now: float) -> float:
        """Take `count`, or say how many seconds to wait for it."""
        wait = self.wait(count, now)
        if not wait:
            self.tokens -= count
        return wait


class Quota:
    """The buckets of all keys, and of the addresses that bad keys come from.

    Args:
        share: of each key's rate that this process may give (1 / workers).
    """

    def __init__(self, share: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._keys: dict[str, Bucket] = {}
        self._addresses: OrderedDict[str, Bucket] = OrderedDict()

    def check(self, key: Key | None) -> None:
        """Before anything is read. Raises: RefusedError 429 if not one row is left."""
        if key is not None and key.limited:
            self._pass(key, self._bucket(key).wait(1, self._clock()))

    def take(self, key: Key | None, rows: int) -> None:
        """Raises: RefusedError 429 if so many rows are not left."""
        if key is not None and key.limited:
            self._pass(key, self._bucket(key).take(rows, self._clock()))

    def give_back(self, key: Key | None, rows: int) -> None:
        """What was taken and not used."""
        if key is not None and key.limited:
            self._bucket(key).tokens += rows

    def failed_key(self, address: str) -> None:
        """Raises: RefusedError 429 if too many bad keys came from there."""
        place, now = network(address), self._clock()
        bucket = self._addresses.pop(place, None)
        if bucket is None:
            bucket = Bucket(_BAD_KEYS_PER_S, _BAD_KEYS_AT_ONCE, _BAD_KEYS_AT_ONCE, now)
        self._addresses[place] = bucket
        if len(self._addresses) > _ADDRESSES:
            self._addresses.popitem(last=False)
        if wait := bucket.take(1, now):
            raise busy("too many bad keys came from this address", wait, "bad_keys")

    def _bucket(self, key: Key) -> Bucket:
        bucket = self._keys.get(key.id)
        rate, size = key.rows_per_s * self._share, key.burst
        if bucket is None:
            bucket = self._keys[key.id] = Bucket(rate, size, size, self._clock())
        # A key's limits may be changed while it is in use.
        bucket.rate, bucket.size = rate, size
        return bucket

    def _pass(self, key: Key, wait: float) -> None:
        if wait:
            allowed = f"the key {key.prefix} may send {key.rows_per_s:g} rows a second"
            raise _over(allowed, wait)


def _over(allowed: str, wait: float) -> RefusedError:
    return busy(allowed, wait, "quota")


def network(address: str) -> str:
    """An IPv6 customer has 2 ** 64 addresses, and one bucket."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if ip.version == 6:
        return str(ipaddress.ip_network((int(ip), 64), strict=False).network_address)
    return address
