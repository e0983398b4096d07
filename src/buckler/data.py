"""Labelled data, and its five splits: what chose anything calibrates nothing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from buckler import draws
from buckler.errors import DataError
from buckler.inputs import InputSpec

SPLITS = ("fit", "select", "calibrate", "verify", "test")
_SHARES = {"fit": 0.54, "select": 0.10, "calibrate": 0.12, "verify": 0.04, "test": 0.20}
_HELD_SHARES = {"select": 0.2, "calibrate": 0.3, "verify": 0.1, "test": 0.4}


@dataclass(frozen=True)
class Split:
    """x (n, *shape) float32 in the box, y (n,) int64, hashes (n,) of the rows' content."""

    x: Tensor
    y: Tensor
    hashes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.x)

    def sample(self, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """`count` rows drawn at random (all, if there are no more): x, y, row ids in the split."""
        rows = draws.permutation(seed, 0, len(self))[: min(count, len(self))].sort().values
        return self.x[rows], self.y[rows], rows


@dataclass(frozen=True)
class Dataset:
    """fit trains; select chooses checkpoints and weights; calibrate sets the threshold, once;
    verify looks at the realised rates; test is seen by assessments alone."""

    name: str
    spec: InputSpec
    splits: dict[str, Split]
    duplicates: int

    def __getitem__(self, split: str) -> Split:
        return self.splits[split]

    def joined(self, more: Split) -> "Dataset":
        """The same with more rows to train on; a row may come more than once.

        Raises: DataError if one of them stands in a split that chooses, calibrates or judges.
        """
        apart = {name: set(self.splits[name].hashes) for name in SPLITS if name != "fit"}
        for name, hashes in apart.items():
            if both := hashes & set(more.hashes):
                raise DataError(
                    f"rows that join fit must stand in no other split. Got {len(both)} of {name}"
                )
        fit = self.splits["fit"]
        x, y = torch.cat([fit.x, more.x]), torch.cat([fit.y, more.y])
        return replace(
            self, splits={**self.splits, "fit": Split(x, y, (*fit.hashes, *more.hashes))}
        )

    def digest(self) -> str:
        """sha256 over the splits' row hashes."""
        text = "\n".join(f"{name}:{','.join(self.splits[name].hashes)}" for name in SPLITS)
        return hashlib.sha256(text.encode()).hexdigest()


def load(
    source: str | Path,
    *,
    seed: int = 0,
    box: tuple[float, float] = (0.0, 1.0),
    class_names: tuple[str, ...] = (),
    levels: int = 0,
) -> Dataset:
    """The data set `source` names, split at random by seed.

    Args:
        source: "digits", a .npz file (`x`, `y`; or `x_train`, `y_train`, `x_test`, `y_test`, and
            then only fit comes from the training part), or a folder with one folder of images a
            class. x: uint8 pixels, uint16 pixels, or floats in the box.
        box: of floats, and what the whole numbers 0..levels-1 of 16-bit files stand for: (0, 4095)
            or (-1024, 3071) keeps raw units; 8-bit pixels become [0, 1].
        levels: of 16-bit images, 4096 for 12 bits; 0: 65536.

    Raises: DataError if it cannot be read, is empty, has one class, or labels out of range.
    """
    if str(source) == "digits":
        return _digits(seed)
    path = Path(source)
    if path.is_dir():
        return _folder(path, seed, box, class_names, levels)
    if path.suffix == ".npz":
        return _npz(path, seed, box, class_names, levels)
    raise DataError(
        f"data must be 'digits', a .npz file, or a folder with one folder of images a class. "
        f"Got {str(source)!r}{'' if path.exists() else ', which does not exist'}"
    )


def of_texts(
    name: str,
    texts: Sequence[str],
    labels: Sequence[int],
    class_names: tuple[str, ...],
    *,
    length: int = 2000,
    seed: int = 0,
) -> Dataset:
    """Texts of at most `length` characters, split at random by seed.

    Raises: DataError naming the first thing wrong.
    """
    spec = InputSpec.of_texts(class_names, length)
    return _split(name, spec, spec.read(texts), torch.tensor(labels, dtype=torch.int64), seed)


def _digits(seed: int) -> Dataset:
    from sklearn.datasets import load_digits

    raw = load_digits()
    spec = InputSpec((1, 8, 8), tuple(str(name) for name in raw.target_names), levels=256)
    x = torch.from_numpy(raw.images).float()[:, None] / 16
    return _split("digits", spec, spec.snap(x), torch.from_numpy(raw.target).long(), seed)


def _npz(
    path: Path, seed: int, box: tuple[float, float], names: tuple[str, ...], levels: int
) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy raises nearly anything over a damaged file
        raise DataError(f"{path} cannot be read as .npz: {error}") from None
    parts = [("x_train", "y_train"), ("x_test", "y_test")] if "x_train" in found else [("x", "y")]
    missing = [name for pair in parts for name in pair if name not in found]
    if missing:
        raise DataError(
            f"{path} must hold x and y, or x_train, y_train, x_test and y_test. "
            f"Missing: {', '.join(missing)}; found: {', '.join(sorted(found)) or 'nothing'}"
        )
    stored = [_arrays(path, found[x], found[y]) for x, y in parts]
    box, levels = _grid(stored[0][0], box, levels)
    if not len(stored[0][0]):
        raise DataError(f"there is no data: at least one row is needed. {path} has 0")
    top = max((int(y.max()) for _, y in stored if len(y)), default=-1)
    names = names or tuple(str(label) for label in range(top + 1))
    if len(names) < 2:
        raise DataError(f"a classifier needs at least 2 classes. {path} has labels of {len(names)}")
    spec = InputSpec(tuple(stored[0][0].shape[1:]), names, box, levels)
    pairs = [(_numbers(path, x, spec), y) for x, y in stored]
    held = pairs[1] if len(pairs) == 2 else None
    return _split(path.stem, spec, *pairs[0], seed, held)


def _grid(x: np.ndarray, box: tuple[float, float], levels: int) -> tuple[tuple[float, float], int]:
    """The box and the levels of pixels as they are stored; floats have no levels."""
    if x.dtype == np.uint8:
        return (0.0, 1.0), 256
    return box, (levels or 65536) if x.dtype == np.uint16 else 0


def _arrays(path: Path, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, Tensor]:
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim == 3:
        x = x[:, None]
    if not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{path}: labels must be whole numbers 0..k-1. Got {y.dtype}")
    return x, torch.from_numpy(y.astype(np.int64))


def _numbers(path: Path, x: np.ndarray, spec: InputSpec) -> Tensor:
    """x (n, *shape) float32 in the spec's box."""
    if x.dtype in (np.uint8, np.uint16):
        return spec.of_levels(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"{path}: x must be uint8 or uint16 pixels or floats. Got {x.dtype}")
    return torch.from_numpy(np.ascontiguousarray(x, np.float32))


def _folder(
    path: Path, seed: int, box: tuple[float, float], names: tuple[str, ...], levels: int
) -> Dataset:
    from PIL import Image

    names = names or tuple(sorted(part.name for part in _visible(path) if part.is_dir()))
    if len(names) < 2:
        raise DataError(f"{path} must have one folder of images a class, 2 or more. Got {names}")
    files = [
        (file, label)
        for label, name in enumerate(names)
        for file in _visible(path / name)
        if file.is_file()
    ]
    filled = {label for _, label in files}
    empty = [name for label, name in enumerate(names) if label not in filled]
    if empty:
        raise DataError(
            f"every class must have images. {path} holds no files in {', '.join(empty)}: "
            "add images there, or leave the class out"
        )
    try:
        with Image.open(files[0][0]) as first:
            deep = first.mode == "I;16"
            channels = 1 if deep or first.mode in ("L", "1") else 3
            shape = (channels, first.height, first.width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{files[0][0]}: the file must be an image. Got {error}") from None
    spec = InputSpec(shape, names, *((box, levels or 65536) if deep else ((0.0, 1.0), 256)))
    rows = []
    for file, _ in files:
        try:
            rows.append(spec.decode(file.read_bytes()))
        except OSError as error:
            raise DataError(f"{file}: the file must be readable. Got {error}") from None
        except DataError as error:
            # decode may speak of an HTTP request's body; here it is a file.
            raise DataError(f"{file}: {str(error).replace('the body', 'the file', 1)}") from None
    return _split(path.name, spec, torch.cat(rows), torch.tensor([y for _, y in files]), seed)


def _visible(folder: Path) -> list[Path]:
    """The folder's entries, sorted; none if it is missing. Names with a dot in front (.git,
    .DS_Store, .ipynb_checkpoints) are a tool's, not data."""
    return sorted(part for part in folder.glob("*") if not part.name.startswith("."))


def _split(
    name: str,
    spec: InputSpec,
    x: Tensor,
    y: Tensor,
    seed: int,
    held: tuple[Tensor, Tensor] | None = None,
) -> Dataset:
    """Drop rows that occur twice (one copy could train, the other test), shuffle, cut."""
    seen: set[str] = set()
    total = len(x) + (len(held[0]) if held else 0)
    splits: dict[str, Split] = {}
    groups = [(x, y, _SHARES)] if held is None else []
    if held is not None:
        groups = [(*held, _HELD_SHARES), (x, y, {"fit": 1.0})]
    for part_x, part_y, shares in groups:
        spec.check_labels(part_y, len(part_x))
        part = _unique(spec.check(part_x), part_y, seen)
        order = draws.permutation(draws.derive(seed, "split", len(splits)), 0, len(part))
        edges = np.round(np.cumsum([0.0, *shares.values()]) * len(part)).astype(int)
        for split, start, stop in zip(shares, edges[:-1], edges[1:], strict=True):
            splits[split] = _take(part, order[start:stop])
    small = [split for split in SPLITS if not len(splits[split])]
    if small:
        raise DataError(f"there is too little data: no rows are left for {', '.join(small)}")
    if len(splits["fit"].y.unique()) < 2:
        raise DataError("the training rows hold one class only: a classifier needs at least 2")
    return Dataset(name, spec, splits, total - sum(len(part) for part in splits.values()))


def _unique(x: Tensor, y: Tensor, seen: set[str]) -> Split:
    keep, hashes = [], []
    for row, digest in enumerate(row_hashes(x)):
        if digest not in seen:
            seen.add(digest)
            keep.append(row)
            hashes.append(digest)
    return Split(x[keep], y[keep], tuple(hashes))


def row_hashes(x: Tensor) -> tuple[str, ...]:
    """Of the content of each row of x (n, ...)."""
    return tuple(
        hashlib.blake2b(values.tobytes(), digest_size=12).hexdigest() for values in x.numpy()
    )


def _take(part: Split, rows: Tensor) -> Split:
    hashes = tuple(part.hashes[row] for row in rows.tolist())
    return replace(part, x=part.x[rows], y=part.y[rows], hashes=hashes)
