"""Golden rows: inputs whose truth is known, kept in a bundle's folder as golden.npz."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from buckler.errors import BundleError, DataError
from buckler.inputs import InputSpec

GOLDEN: Final = "golden.npz"


@dataclass(frozen=True, eq=False)
class Golden:
    """x: (n, ...) inputs as the guard takes them; truth: (n,) class names; attack: (n,) whether it
    is a known adversarial input, else a known clean one."""

    x: Tensor
    truth: tuple[str, ...]
    attack: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.truth)


def write_golden(path: Path, x: Tensor, y: Tensor, attack: Tensor) -> None:
    """Put golden rows into the bundle's folder, outside its digest.

    Args:
        x: (n, ...) inputs.
        y: (n,) int64, true labels.
        attack: (n,) bool.
    """
    arrays = {"x": x.numpy(), "y": y.numpy(), "attack": attack.numpy()}
    np.savez_compressed(path / GOLDEN, allow_pickle=False, **arrays)


def read_golden(stable: Path | None, candidate: Path, spec: InputSpec) -> Golden | None:
    """The golden rows of the bundle that is live, or else the candidate's, in random order: a
    candidate does not bring its own examination where there is one. None if neither has any.

    Raises: BundleError for a file that is none.
    """
    for folder in (stable, candidate):
        if folder is not None and (folder / GOLDEN).is_file():
            return _read(folder / GOLDEN, spec)
    return None


def _read(path: Path, spec: InputSpec) -> Golden:
    try:
        with np.load(path, allow_pickle=False) as found:
            x = torch.from_numpy(np.asarray(found["x"], np.float32))
            y, attack = np.asarray(found["y"], np.int64), np.asarray(found["attack"], bool)
        spec.check(x)
        if not len(x) == len(y) == len(attack) or not ((y >= 0) & (y < spec.classes)).all():
            raise DataError("x, y and attack do not fit together, or a label has no class")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise BundleError(f"{path} holds no golden rows: {error}") from None
    order = list(range(len(x)))
    secrets.SystemRandom().shuffle(order)
    return Golden(
        spec.snap(x[order]),
        tuple(spec.class_names[int(y[row])] for row in order),
        tuple(bool(attack[row]) for row in order),
    )
