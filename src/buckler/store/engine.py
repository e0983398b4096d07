"""A URL becomes an open store: a SQLite file by default, PostgreSQL where there are replicas.

Two engines on the same tables. A commit of `durable` is on the disk when it returns (SQLite
synchronous=FULL, PostgreSQL synchronous_commit=on); one of `relaxed` survives a crash of the
process, but perhaps not of the machine, and is many times cheaper.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from buckler.errors import StoreDownError, UsageError
from buckler.store.blobs import Blobs

BUSY_S: Final = 5.0
_ASK_S: Final = 0.002
_READING: Final = "buckler_reading"
_ALLOWED = "sqlite:///FOLDER/store.db or postgresql://USER@HOST/DATABASE"


@dataclass(frozen=True, eq=False)
class Store:
    """An open store. Threads may share it; processes open their own."""

    durable: sa.Engine
    relaxed: sa.Engine
    blobs: Blobs
    # Who waits for SQLite's lock asks again and again, ever more rarely, and a busy neighbour gets
    # it each time; threads of one process wait for this one instead.
    turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def is_sqlite(self) -> bool:
        return self.durable.dialect.name == "sqlite"

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """A transaction that commits at the end of the block, on the disk where `durable`.

        Raises: StoreDownError if the database cannot be reached, or does not take it.
        """
        engine = self.durable if durable else self.relaxed
        with self._in_turn(), _told(), engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads, and waits for no writer. Raises: StoreDownError."""
        reading = self.relaxed.execution_options(**{_READING: True})
        with _told(), reading.connect() as connection:
            yield connection

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        if not self.turn.acquire(timeout=BUSY_S):
            raise StoreDownError(f"the store cannot be used now: it was busy for {BUSY_S:g} s")
        try:
            yield
        finally:
            self.turn.release()

    def close(self) -> None:
        self.durable.dispose()
        self.relaxed.dispose()


def open_store(url: str, blobs: str | None = None, *, upgrade: bool = True) -> Store:
    """The store at `url`.

    Args:
        url: sqlite:///FOLDER/store.db or postgresql://USER@HOST/DATABASE.
        blobs: folder or s3:// URL of the inputs; by default blobs/ beside a SQLite file.
        upgrade: make the tables of a new store, and bring an older one to this version.

    Raises: UsageError if the URL or the folder cannot be used; StoreDownError if nobody answers;
        DataError if the tables are of another version and upgrade is False.
    """
    from buckler.store import migrate

    place = parse(url)
    if place.get_backend_name() == "sqlite":
        folder = _folder(str(place.database))
        blobs = blobs or str(folder / "blobs")
    if not blobs:
        raise UsageError(
            "a store in PostgreSQL needs a place for inputs that all replicas share: "
            "a folder or an s3:// URL. Got none"
        )
    store = Store(engine(place, durable=True), engine(place, durable=False), Blobs(blobs))
    try:
        with _told():
            if upgrade:
                migrate.upgrade(store.durable)
            migrate.check(store.durable)
    except BaseException:
        store.close()
        raise
    return store


def parse(url: str) -> sa.URL:
    """Raises: UsageError, without the password, if this is no URL of a store."""
    try:
        place = sa.make_url(url)
    except ArgumentError:
        raise UsageError(f"a store is given as {_ALLOWED}. Got text that is no URL") from None
    backend = place.get_backend_name()
    shown = place.render_as_string(hide_password=True)
    if backend in ("postgresql", "postgres"):
        return place.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise UsageError(f"a store is given as {_ALLOWED}. Got {shown!r}")
    if place.database in (None, "", ":memory:"):
        raise UsageError(f"a store in memory loses everything: give {_ALLOWED}. Got {shown!r}")
    return place


def engine(place: sa.URL, *, durable: bool) -> sa.Engine:
    """An engine whose every connection has the settings above.

    Raises: UsageError if the driver is not installed.
    """
    sqlite = place.get_backend_name() == "sqlite"
    options: dict[str, Any] = (
        {"timeout": BUSY_S}
        if sqlite
        else {"connect_timeout": int(BUSY_S), "tcp_user_timeout": int(1000 * BUSY_S)}
    )
    try:
        made = sa.create_engine(
            place, connect_args=options, pool_pre_ping=not sqlite, pool_timeout=BUSY_S
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise UsageError(
            "PostgreSQL needs psycopg, which is not installed: "
            'pip install -c constraints.txt -e ".[serve,postgres]"'
        ) from None
    if sqlite:
        event.listen(made, "connect", _sqlite_settings("FULL" if durable else "NORMAL"))
        event.listen(made, "begin", _begin)
    else:
        event.listen(made, "connect", _postgres_settings("on" if durable else "off"))
    return made


def durability(connection: sa.Connection) -> str:
    """What a commit on this connection waits for: "FULL", "NORMAL", "on", "off"."""
    if connection.dialect.name == "sqlite":
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        return {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}[level]
    return str(connection.exec_driver_sql("SHOW synchronous_commit").scalar_one())


def _sqlite_settings(synchronous: str) -> Any:
    def connect(connection: Any, _: object) -> None:
        # sqlite3 would begin transactions by itself, deferred: a reader that turns writer then
        # finds "database is locked" at once, whatever the timeout. We begin them ourselves.
        connection.isolation_level = None
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise UsageError(
                "the store must lie on a local disk, where SQLite can keep a write-ahead log. "
                f"Got the journal mode {mode!r}"
            )
        for pragma in (
            f"synchronous={synchronous}",
            "fullfsync=ON",  # where fsync alone does not reach the disk (macOS)
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    return connect


def _begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(_READING, False):
        connection.exec_driver_sql("BEGIN")
        return
    # SQLite's own waiting asks ever more rarely, down to ten times a second: a busy process would
    # be served each time, and the others never.
    raw, until = connection.connection.driver_connection, time.monotonic() + BUSY_S
    assert raw is not None
    raw.execute("PRAGMA busy_timeout = 0").close()
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except OperationalError as error:
                name = getattr(error.orig, "sqlite_errorname", "")
                if not name.startswith("SQLITE_BUSY") or time.monotonic() > until:
                    raise
            time.sleep(_ASK_S)
    finally:
        raw.execute(f"PRAGMA busy_timeout = {int(1000 * BUSY_S)}").close()


def _postgres_settings(synchronous_commit: str) -> Any:
    def connect(connection: Any, _: object) -> None:
        connection.autocommit = True
        connection.execute(f"SET SESSION synchronous_commit TO {synchronous_commit}")
        connection.autocommit = False

    return connect


def _folder(database: str) -> Path:
    """The folder of a SQLite file, made if it is not there. Raises: UsageError."""
    path = Path(database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        probe = path.with_name(f".{path.name}.probe")
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"the store {path} must be a file in a folder that can be written: {error.strerror}"
        ) from None
    return path.resolve().parent


@contextmanager
def _told() -> Iterator[None]:
    """A database that does not answer, as one sentence; what is our mistake stays as it is."""
    try:
        yield
    except (OperationalError, sa.exc.InterfaceError, PoolTimeoutError) as error:
        raise StoreDownError(f"the store cannot be used now: {_why(error)}") from error
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(error, sa.exc.InternalError):
            raise StoreDownError(f"the store cannot be used now: {_why(error)}") from error
        if type(error) is sa.exc.DatabaseError:  # SQLite: malformed image, not a database
            raise StoreDownError(f"the store cannot be read: {_why(error)}") from error
        raise


def _why(error: Exception) -> str:
    """The driver's first line, without SQL or parameters."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0] or type(cause).__name__
