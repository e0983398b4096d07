"""A gateway with a store of its own, and keys that open it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from buckler.ops.access import ROLES
from buckler.serve import create_app
from buckler.store.engine import Store, open_store
from buckler.store.keys import add_key

from .tiny import settings, tiny_guard


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder}/store/store.db"


def new_key(store: Store, *roles: str) -> str:
    """The text of a key with these roles; with all of them, if none is named."""
    limits = {"rows_per_s": 1e6, "burst": 1e6}
    return add_key(store, "test", roles or ROLES, time.time(), "test", **limits)[1]


@dataclass
class Opened:
    """A gateway in this process; `client` shows the key of all roles."""

    app: FastAPI
    client: TestClient
    store: Store

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        return rows(self.store, table)

    def with_key(self, *roles: str) -> dict[str, str]:
        """Headers of a new key, which counts at once."""
        made = new_key(self.store, *roles)
        self.app.state.stored.keys.refresh()
        return {"x-api-key": made}


def rows(store: Store, table: sa.Table) -> list[dict[str, Any]]:
    with store.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


@contextmanager
def opened(folder: Path, guard: Any = None, **given: object) -> Iterator[Opened]:
    chosen = settings(**{"store": url_in(folder), "accepted_sample": 0, **given})
    beside = open_store(str(chosen.store.get_secret_value()), chosen.inputs)  # type: ignore[union-attr]
    key = new_key(beside)
    app = create_app(guard or tiny_guard(), chosen, log=False)
    with TestClient(app, headers={"x-api-key": key}) as client:
        yield Opened(app, client, beside)
    beside.close()
