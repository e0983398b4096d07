"""The schema, up and down: alembic's migrations, which travel inside the package."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from buckler.errors import DataError

_LOCK = 4_951_902  # any number that is ours: two replicas that start at once take turns


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the tables to `revision`; at "head" already, nothing happens."""
    _run(engine, lambda config: command.upgrade(config, revision))


def downgrade(engine: sa.Engine, revision: str = "base") -> None:
    """Take the tables back to `revision`; "base" drops them with all they hold."""
    _run(engine, lambda config: command.downgrade(config, revision))


def revision(engine: sa.Engine) -> str | None:
    """The tables' version, None where there are none."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The version this package writes."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def check(engine: sa.Engine) -> None:
    """Raises: DataError unless the tables are of this package's version."""
    found = revision(engine)
    if found != head():
        raise DataError(
            f"the store's tables must be of version {head()}. Got {found or 'none'}: "
            "open it with this version of buckler and upgrade, or with the one that wrote it"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _run(engine: sa.Engine, change: object) -> None:
    config = _config()
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config.attributes["connection"] = connection
        assert callable(change)
        change(config)
