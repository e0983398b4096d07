"""What tables are made of: columns of few kinds. Times are unix seconds."""

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()
# SQLite counts rows in 64 bits by itself, and only where the column is called INTEGER.
LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def ident(name: str = "id") -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=True)


def text(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null, default=default)


def moment(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=null)


def count(name: str, default: int | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, default=default)


def flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, default=False)


def json(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON, nullable=False)
