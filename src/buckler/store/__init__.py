"""What the gateway must not lose: rows under review, decisions, keys, the audit. SQL lives here.

Import what you need from its files: `engine.open_store`, `recorder.Recorder`, `reviews`, `keys`,
`users`, `audit`, `care`.
"""

from buckler.errors import UsageError

try:
    import alembic  # noqa: F401
    import argon2  # noqa: F401
    import fsspec  # noqa: F401
    import sqlalchemy  # noqa: F401
except ModuleNotFoundError as error:
    raise UsageError(
        f"the store needs {error.name}, which is not installed: "
        'pip install -c constraints.txt -e ".[serve]"'
    ) from None
