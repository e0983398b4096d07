import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from buckler.guard import Guard
from buckler.serve import create_app
from buckler.store.engine import Store

from .desks import store_in
from .tiny import settings, tiny_guard


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BUCKLER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def guard() -> Guard:
    return tiny_guard()


@pytest.fixture
def client(guard: Guard) -> Iterator[TestClient]:
    with TestClient(create_app(guard, settings(), log=False)) as client:
        yield client


@pytest.fixture
def scores(guard: Guard) -> Iterator[TestClient]:
    """Of a gateway whose operator shows the scores to all."""
    with TestClient(create_app(guard, settings(expose="scores"), log=False)) as client:
        yield client


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = store_in(tmp_path)
    yield opened
    opened.close()
