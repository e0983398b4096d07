"""A copy of a store on SQLite, taken while it runs, and a store from a copy.

PostgreSQL has better tools: pg_dump or pg_basebackup for the tables first, then a copy of the
inputs. In that order every row of the copy finds its input, for inputs are never rewritten.
"""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from buckler import files
from buckler.errors import DataError, UsageError
from buckler.store import audit, care
from buckler.store.engine import Store, open_store, parse
from buckler.store.tables import blobs as table

_DATABASE, _INPUTS, _FACTS = "store.db", "blobs", "backup.json"


@dataclass(frozen=True)
class Backup:
    """What a copy holds. head: the audit's last row then; keep it elsewhere for `care.check`."""

    when: float
    inputs: int
    head: tuple[int, str]


def backup(store: Store, folder: Path, now: float) -> Backup:
    """Copy the store into a new folder, which appears whole or not at all.

    Raises: UsageError for PostgreSQL, with what to use; DataError if it cannot be written, or an
        input is missing or changed.
    """
    if not store.is_sqlite:
        raise UsageError(
            "a store in PostgreSQL is backed up by pg_dump or pg_basebackup, and then a copy of "
            f"its inputs at {store.blobs.url}"
        )
    if folder.exists():
        raise UsageError(f"a backup goes into a new folder. Got {folder}, which is there already")
    with files.new_folder(folder) as part:
        database = part / _DATABASE
        with (
            closing(sqlite3.connect(str(store.durable.url.database))) as source,
            closing(sqlite3.connect(database)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, whole by itself
        engine = sa.create_engine(f"sqlite:///{database}")
        with engine.connect() as connection:
            digests = list(connection.scalars(sa.select(table.c.digest)))
            head = audit.head(connection)
        engine.dispose()
        for digest in digests:
            files.write_bytes(part / _INPUTS / digest[:2] / digest, store.blobs.get(digest))
        facts = {"when": now, "inputs": len(digests), "head": head}
        files.write_json(part / _FACTS, {**facts, "sha256": files.sha256(database)})
    return Backup(now, len(digests), head)


def restore(folder: Path, url: str, blobs: str | None = None) -> Store:
    """A new store at `url` with all that the copy holds, checked, and open.

    Raises: UsageError if there is a store already; DataError if the copy is damaged.
    """
    place = parse(url)
    if place.get_backend_name() != "sqlite":
        raise UsageError("a copy goes back into SQLite; for PostgreSQL use pg_restore")
    target = Path(str(place.database))
    if target.exists():
        raise UsageError(f"there is a store at {target} already: move it away first")
    facts = files.read_json(folder / _FACTS)
    database = folder / _DATABASE
    if not database.is_file() or files.sha256(database) != facts.get("sha256"):
        raise DataError(f"the copy {folder} is damaged: {_DATABASE} is not what was backed up")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(database, target)
    try:
        store = open_store(url, blobs)
        for path in sorted((folder / _INPUTS).glob("*/*")):
            store.blobs.put(path.read_bytes())
        if wrong := care.check(store):
            store.close()
            raise DataError(f"the copy {folder} is damaged: {wrong[0]}")
    except BaseException:
        for name in ("", "-wal", "-shm"):
            target.with_name(target.name + name).unlink(missing_ok=True)
        raise
    return store
