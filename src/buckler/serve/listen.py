"""The socket: who may reach it, and how it stops taking connections without losing one."""

import ctypes
import errno
import ipaddress
import socket
import struct
import sys
import time

from buckler.errors import PolicyError, UsageError
from buckler.serve.settings import Settings

_BACKLOG = 1024
_SETTLE_S = 0.1
_EMPTY_S = 5.0
_SO_ATTACH_FILTER = 26
_UNACKED = 24  # in struct tcp_info: for a listener, the connections nobody has taken yet
# Classic BPF over a TCP header: drop what has SYN and not ACK in byte 13, keep all else.
_DROP_NEW = (
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)


def listen(settings: Settings, *, keys: bool) -> socket.socket:
    """A socket that listens already: whoever holds it owns the port while the bundle loads.

    Args:
        keys: whether callers must show one.

    Raises: PolicyError for an address that others can reach, without keys; UsageError for a port
        in use.
    """
    host, port = settings.host, settings.port
    address = _address(host, keys)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # The protocol must be named: asyncio sends without Nagle's 40 ms delay only then.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} on {host} is in use: stop what listens there, or choose another "
                "port (0 takes any free one)"
            ) from None
        why = error.strerror or str(error)
        raise UsageError(
            f"port {port} on {host} cannot be opened ({why}): choose another port (0 takes any "
            "free one)"
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def refuse_new(listener: socket.socket) -> None:
    """Let no new connection begin, and wait until those that began were taken.

    Closing the socket at once would reset the connections that the kernel made and nobody took
    yet. Elsewhere than on Linux that stays so.
    """
    if sys.platform != "linux":
        return
    program = b"".join(struct.pack("HBBI", *step) for step in _DROP_NEW)
    kept = ctypes.create_string_buffer(program)
    pointer = struct.pack("HP", len(_DROP_NEW), ctypes.addressof(kept))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
    except OSError:
        return
    # A handshake that is half done ends within a round trip.
    time.sleep(_SETTLE_S)
    end = time.monotonic() + _EMPTY_S
    while _not_taken(listener) and time.monotonic() < end:
        time.sleep(0.01)


def _not_taken(listener: socket.socket) -> int:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED + 4)
    return int(struct.unpack_from("I", info, _UNACKED)[0])


def _address(host: str, keys: bool) -> str:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        if keys or ipaddress.ip_address(address).is_loopback:
            return str(ipaddress.ip_address(address))
    except ValueError:
        if keys:
            raise UsageError(f"host must be an IP address or localhost. Got {host!r}") from None
    raise PolicyError(
        "host must be a loopback address (127.0.0.1, ::1 or localhost) as long as the gateway has "
        f"no keys, since it would answer anyone. Got {host!r}: make a key with `buckler key new` "
        "and set BUCKLER_KEYS_FILE"
    )
