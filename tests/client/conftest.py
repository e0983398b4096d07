from collections.abc import Iterator

import pytest

from buckler.serve import Background

from ..serve.conftest import _no_settings_from_outside  # noqa: F401
from ..serve.tiny import settings, tiny_guard


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A real gateway."""
    with Background(tiny_guard(), settings(), log=False) as url:
        yield url


@pytest.fixture(scope="module")
def scores() -> Iterator[str]:
    """One that shows the scores."""
    with Background(tiny_guard(), settings(expose="scores"), log=False) as url:
        yield url
