"""A store on SQLite and on PostgreSQL: the latter in a temporary folder, on a free port, as a user
that is not root."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from buckler.store.engine import Store, open_store

_HOMES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@dataclass
class Postgres:
    """A server of our own; stop(), start() and kill() for the tests of what then happens."""

    folder: Path
    port: int
    databases: int = 0

    def run(self, *arguments: str) -> None:
        as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        subprocess.run(
            [*as_user, *arguments], check=True, capture_output=True, cwd=self.folder, timeout=60
        )

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        log, data = str(self.folder / "log"), str(self.folder / "data")
        self.run(_program("pg_ctl"), "-D", data, "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        self.run(_program("pg_ctl"), "-D", str(self.folder / "data"), "-m", "immediate", "stop")

    def new_url(self, like: str = "template1") -> str:
        """An empty database, or a copy of one of ours."""
        self.databases += 1
        name = f"store{self.databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {like} STRATEGY file_copy")
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"


def _program(name: str) -> str:
    return str(_HOMES[0] / name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if not _HOMES or (os.getuid() == 0 and shutil.which("runuser") is None):
        pytest.skip("PostgreSQL is not installed")
    # In memory where there is such a place: it is our process that is killed, not the machine.
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp("", "buckler-pg-", memory if memory.is_dir() else None))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Postgres(folder, probe.getsockname()[1])
    try:
        data = str(folder / "data")
        server.run(_program("initdb"), "-N", "-D", data, "-A", "trust", "-U", "postgres")
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_url()


@pytest.fixture(scope="session")
def made(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with the tables, to be copied."""
    url = postgres.new_url()
    open_store(url, str(tmp_path_factory.mktemp("made"))).close()
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").new_url(request.getfixturevalue("made"))
    opened = open_store(url, str(tmp_path / "blobs"))
    yield opened
    opened.close()


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Store]:
    """On SQLite alone, where the database makes no difference."""
    opened = open_store(f"sqlite:///{tmp_path}/store.db")
    yield opened
    opened.close()
