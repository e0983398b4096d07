"""The head of a request, read once."""

from collections.abc import Mapping
from typing import Any, Final

_KEPT: Final = "buckler.head"


def head_of(scope: Any) -> Mapping[str, str]:
    """The headers of an ASGI scope by lower-case name; of one sent twice, the first."""
    found: dict[str, str] | None = scope.get(_KEPT)
    if found is None:
        found = scope[_KEPT] = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in reversed(scope["headers"])
        }
    return found
