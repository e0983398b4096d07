"""The store a verb works on, and the options that name it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from buckler.errors import UsageError

if TYPE_CHECKING:
    from buckler.store.engine import Store

StoreOption = Annotated[
    str, typer.Option("--store", envvar="BUCKLER_STORE", help="sqlite:///FOLDER/store.db, or a URL")
]
InputsOption = Annotated[
    str | None,
    typer.Option(
        "--inputs", envvar="BUCKLER_INPUTS", help="Where inputs are kept, if not beside the store."
    ),
]


@contextmanager
def opened_store(url: str, inputs: str | None, *, upgrade: bool = False) -> Iterator["Store"]:
    """The store that is there. Raises: UsageError if a file is not: a typing error makes none."""
    from buckler.store.engine import open_store, parse

    place = parse(url)
    if place.get_backend_name() == "sqlite" and not Path(str(place.database)).is_file():
        raise UsageError(
            f"there is no store at {place.database}: the gateway makes it, or buckler store init"
        )
    opened = open_store(url, inputs, upgrade=upgrade)
    try:
        yield opened
    finally:
        opened.close()
