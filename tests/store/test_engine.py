"""Stores open with the settings that durability rests on, or say in one sentence why not."""

import sqlite3

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from buckler.errors import DataError, StoreDownError, UsageError
from buckler.store import migrate
from buckler.store.engine import durability, engine, open_store, parse
from buckler.store.schema import metadata


def differences(found: sa.Engine) -> list[object]:
    with found.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection), metadata)


def names(found: sa.Engine) -> set[str]:
    return set(sa.inspect(found).get_table_names())


def test_the_schema_goes_down_and_up_again_and_is_that_of_the_tables(url):
    found = engine(parse(url), durable=True)
    migrate.upgrade(found)
    assert differences(found) == []
    assert migrate.revision(found) == migrate.head()
    migrate.downgrade(found)
    assert names(found) <= {"alembic_version"}
    assert migrate.revision(found) is None
    with pytest.raises(DataError, match=rf"must be of version {migrate.head()}\. Got none"):
        migrate.check(found)
    migrate.upgrade(found)
    migrate.upgrade(found)
    assert differences(found) == []
    assert names(found) == set(metadata.tables) | {"alembic_version"}
    found.dispose()


def test_a_failed_migration_leaves_nothing(url):
    found = engine(parse(url), durable=True)

    def stop(*given):
        if given[2].startswith("CREATE INDEX"):
            raise RuntimeError("in the middle")

    sa.event.listen(found, "before_cursor_execute", stop)
    with pytest.raises(RuntimeError):
        migrate.upgrade(found)
    sa.event.remove(found, "before_cursor_execute", stop)
    assert names(found) == set()
    migrate.upgrade(found)
    assert differences(found) == []
    found.dispose()


def test_commits_wait_for_the_disk_where_they_must(store):
    expected = ("FULL", "NORMAL") if store.is_sqlite else ("on", "off")
    with store.write() as connection:
        assert durability(connection) == expected[0]
    with store.write(durable=False) as connection:
        assert durability(connection) == expected[1]
    if store.is_sqlite:
        with store.write() as connection:
            pragma = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "foreign_keys", "busy_timeout")
            }
        assert pragma == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 5000}


def test_a_writer_locks_at_its_begin_and_readers_do_not_wait(lite):
    said: list[str] = []
    sa.event.listen(
        lite.durable, "before_cursor_execute", lambda *given: said.append(str(given[2]))
    )
    with lite.write() as connection, lite.read() as reader:
        other = sqlite3.connect(lite.durable.url.database, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        assert reader.exec_driver_sql("SELECT 2").scalar() == 2
    assert said[0] == "BEGIN IMMEDIATE"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nonsense", r"a store is given as sqlite:///FOLDER/store.db or postgresql://"),
        ("mysql://me:hidden@host/x", r"Got 'mysql://me:\*\*\*@host/x'"),
        ("sqlite://", "a store in memory loses everything"),
        ("sqlite:////proc/nowhere/store.db", "must be a file in a folder that can be written"),
        ("postgresql://me@127.0.0.1:1/x", "a store in PostgreSQL needs a place for inputs"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_sentence(given, said):
    with pytest.raises(UsageError, match=said) as caught:
        open_store(given)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(UsageError, match="must be a file in a folder"):
        open_store(f"sqlite:///{tmp_path}")


def test_nobody_there_is_one_sentence(tmp_path):
    with pytest.raises(StoreDownError, match="cannot be used now") as caught:
        open_store("postgresql://me:hidden@127.0.0.1:1/x", str(tmp_path / "blobs"))
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_sentence(tmp_path):
    (tmp_path / "store.db").write_bytes(b"no database at all " * 100)
    with pytest.raises(StoreDownError, match="not a database"):
        open_store(f"sqlite:///{tmp_path}/store.db")


def test_a_lock_that_another_process_keeps_is_told_in_time(lite, monkeypatch):
    monkeypatch.setattr("buckler.store.engine.BUSY_S", 0.1)
    other = sqlite3.connect(lite.durable.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def write():
        with lite.write() as connection:
            return connection.exec_driver_sql("SELECT 1").scalar()

    with pytest.raises(StoreDownError, match="database is locked"):
        write()
    other.execute("ROLLBACK")
    other.close()
    assert write() == 1
