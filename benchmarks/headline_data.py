"""The headline's data sets, split so that what chose anything calibrates nothing."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.attack_nets import load_data
from buckler import data as buckler_data
from buckler import draws
from buckler.data import Dataset, Split
from buckler.inputs import InputSpec

FOLDS = 5
_HELD = {"select": 2_500, "calibrate": 10_000}
_FOLDERS = {"mnist": "mnist", "fashion": "fashion-mnist", "cifar10-20k": "cifar10-20k"}
_FASHION = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"
)  # fmt: skip


def load(name: str, folder: Path | None, small: bool = False) -> Dataset:
    """fit, select and calibrate come from the training part; verify and test are the test part:
    the same rows, for nothing is chosen on either.

    Args:
        small: a tenth of the rows, for a quick look.
    """
    parts = load_data(_FOLDERS[name], folder)
    classes = _FASHION if name == "fashion" else tuple(str(label) for label in range(10))
    spec = InputSpec(tuple(parts.x_fit.shape[1:]), classes, levels=256)
    share = 0.1 if small else 1.0
    if name == "cifar10-20k":
        share *= 0.2
    held = {split: int(count * share) for split, count in _HELD.items()}
    order = draws.permutation(draws.derive(0, "headline"), 0, len(parts.x_fit))
    order = order[: int(len(order) * (0.1 if small else 1.0))]
    cut = len(order) - sum(held.values())
    splits = {"fit": _split(parts.x_fit, parts.y_fit, order[:cut], "fit")}
    for split, count in held.items():
        splits[split] = _split(parts.x_fit, parts.y_fit, order[cut : cut + count], split)
        cut += count
    test = draws.permutation(draws.derive(0, "test"), 0, len(parts.x_test))
    test = test[: int(len(test) * (0.1 if small else 1.0))].sort().values
    splits["test"] = splits["verify"] = _split(parts.x_test, parts.y_test, test, "test")
    return Dataset(name, spec, splits, duplicates=0)


def digits_fold(fold: int) -> Dataset:
    """The 1,797 digits: a fifth is the test, each row in one fold's; the rest trains, but for 160
    rows that choose and 240 that calibrate."""
    whole = buckler_data.load("digits")
    x = torch.cat([whole[split].x for split in buckler_data.SPLITS])
    y = torch.cat([whole[split].y for split in buckler_data.SPLITS])
    order = draws.permutation(draws.derive(0, "folds"), 0, len(x))
    test = order[fold::FOLDS]
    rest = order[~torch.isin(order, test)]
    rest = rest[draws.permutation(draws.derive(0, "fold"), fold, len(rest))]
    cuts = {"select": rest[:160], "calibrate": rest[160:400], "fit": rest[400:]}
    splits = {name: _split(x, y, rows, f"{name}-{fold}") for name, rows in cuts.items()}
    splits["test"] = splits["verify"] = _split(x, y, test.sort().values, f"test-{fold}")
    return Dataset(f"digits, fold {fold + 1}", whole.spec, splits, whole.duplicates)


def _split(x: Tensor, y: Tensor, rows: Tensor, name: str) -> Split:
    return Split(x[rows], y[rows], _names(name, rows.tolist()))


def _names(name: str, rows: Sequence[int]) -> tuple[str, ...]:
    """The rows' ids stand for their content: the files are published ones."""
    return tuple(f"{name}:{row}" for row in rows)
