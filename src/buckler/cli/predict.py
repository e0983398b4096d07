"""buckler predict: the guard's verdict on files."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from buckler.cli import show
from buckler.errors import DataError
from buckler.guard import Guard, load_bundle
from buckler.guard.bundle import OWN_FACTORIES


def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.")],
    inputs: Annotated[list[Path], typer.Argument(help="Image files, or .npy arrays of rows.")],
    factory: Annotated[
        list[str] | None, typer.Option(help="module:function that may build a member.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="Refuse any other bundle.")] = None,
) -> None:
    """Print one verdict a row, as JSON lines."""
    guard = load_bundle(bundle, factories=(*OWN_FACTORIES, *(factory or [])), digest=digest)
    for path in inputs:
        for verdict in guard.judge(_read(path, guard)):
            show.out.print_json(data={"file": str(path), **verdict.to_dict()}, indent=None)


def _read(path: Path, guard: Guard) -> torch.Tensor:
    try:
        if path.suffix == ".npy":
            stored = np.load(path, allow_pickle=False)
            deep = guard.spec.is_deep and stored.dtype == np.uint16
            rows = guard.spec.of_levels(stored) if deep else torch.from_numpy(stored).float()
            return rows if rows.ndim == len(guard.spec.shape) + 1 else rows[None]
        return guard.spec.decode(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
