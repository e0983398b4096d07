"""What is remembered of an input so that a near-equal one is recognised: under 1 kB.

Three looks at one image, each of which misses what another sees:
- `fine`: hashes of windows of its quantised values (Blacklight: Li et al. 2022, arXiv:2006.14042).
  Survives a patch of any strength; lost in noise that crosses the bins. Deviations: a window's
  place belongs to its hash, the bins' edges are a secret of each place, and windows without
  contrast do not count: black borders would make all digits alike.
- `cells`: the image in some 200 cells. Survives any change that is small in every pixel.
- `values`: for the angle between two differences (GWAD: Park et al., CVPR 2025).
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from buckler.errors import UsageError

Bytes = NDArray[np.uint8]
FINE: Final = 16
_WINDOW: Final = 20
_BIN: Final = 50  # of 256 levels
_LEAST: Final = 8  # hashes that tell anything
_CELLS: Final = 256
_VALUES: Final = 4096


@dataclass(frozen=True, eq=False)
class Print:
    """Of one input.

    whole: the same for the same input only.
    fine: up to FINE uint64, none twice; empty where the image has too little contrast.
    cells: (≤ 256,) means of cells, 0 to 255.
    values: (≤ 4096,), 0 to 255.
    """

    whole: int
    fine: NDArray[np.uint64]
    cells: Bytes
    values: Bytes


@dataclass(frozen=True, eq=False)
class Looks:
    """How images of one shape are looked at.

    Args:
        shape: (c, h, w).
        salt: a secret: who knows it can make inputs with the same fine hashes, or find the edges.

    Raises: UsageError for inputs that are no images.
    """

    shape: tuple[int, ...]
    salt: bytes

    def __post_init__(self) -> None:
        if len(self.shape) != 3:
            raise UsageError(
                "streams of near-equal inputs are recognised among images (c, h, w) only: rows of "
                f"features are often near-equal by nature. Got inputs of shape {self.shape}"
            )
        seed = int.from_bytes(blake2b(self.salt, digest_size=16).digest())
        secret = np.random.Generator(np.random.PCG64(seed))
        size = self._values(np.zeros((1, *self.shape), np.float32)).shape[1]
        object.__setattr__(self, "_edges", secret.integers(0, _BIN, size, np.uint16))
        object.__setattr__(self, "_weights", secret.integers(0, 2**63, size, np.uint64) * 2 + 1)

    def cells(self, x: NDArray[np.floating[Any]]) -> Bytes:
        """(n, cells) of x (n, c, h, w) in [0, 1].

        No cell differs more between two images than some pixel does.
        """
        c, h, w = self.shape
        side = int((_CELLS / c) ** 0.5) or 1
        return _levels(_pooled(x, -(-max(h, w) // side)))

    def print(self, x: NDArray[np.floating[Any]]) -> Print:
        """Of one image (c, h, w) in [0, 1]."""
        values = self._values(x[None])[0]
        whole = blake2b(_levels(x).tobytes(), digest_size=8).digest()
        return Print(int.from_bytes(whole), self._fine(values), self.cells(x[None])[0], values)

    def _values(self, x: NDArray[np.floating[Any]]) -> Bytes:
        c, h, w = self.shape
        block = 1
        while c * -(-h // block) * -(-w // block) > _VALUES:
            block += 1
        return _levels(_pooled(x, block))

    def _fine(self, values: Bytes) -> NDArray[np.uint64]:
        edges, weights = vars(self)["_edges"], vars(self)["_weights"]
        binned = (values + edges) // _BIN
        # Sums over a window as differences of running sums, modulo 2 ** 64.
        sums = np.concatenate([[np.uint64(0)], np.cumsum(binned * weights, dtype=np.uint64)])
        rough = (values.astype(np.int16) + _BIN // 2) // _BIN
        steps = np.concatenate([[0, 0], np.cumsum(rough[1:] != rough[:-1])])
        if len(values) < _WINDOW:
            return np.empty(0, np.uint64)
        contrast = steps[_WINDOW:] > steps[1 : len(steps) - _WINDOW + 1]
        hashes = _mixed((sums[_WINDOW:] - sums[:-_WINDOW])[contrast])
        if len(hashes) < _LEAST:
            return np.empty(0, np.uint64)
        least = hashes if len(hashes) <= FINE else np.partition(hashes, FINE)[:FINE]
        return np.unique(least)


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit depends on all (splitmix64's finish: Steele et al. 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = hashes ^ (hashes >> np.uint64(31))
    return mixed


def _pooled(x: NDArray[np.floating[Any]], block: int) -> NDArray[np.floating[Any]]:
    """Means of blocks; at the far edges of what is left."""
    if block > 1:
        for axis in (2, 3):
            edges = np.arange(0, x.shape[axis], block)
            sizes = np.diff(edges, append=x.shape[axis]).astype(x.dtype)
            x = np.add.reduceat(x, edges, axis) / sizes.reshape((-1, 1) if axis == 2 else (-1,))
    return x.reshape(len(x), -1)


def _levels(x: NDArray[np.floating[Any]]) -> Bytes:
    levels: Bytes = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
    return levels
