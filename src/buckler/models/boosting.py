"""XGBoost and LightGBM from their own files: margins as logits, for black-box attacks."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models.scores import two_columns

_INSTALL = 'need their library: pip install -e ".[tabular]" in Buckler\'s folder'
_WHERE = re.compile(r"^\[[^]]*\] \S+:\d+: ")  # time and line of XGBoost's own source


class XGBoostClassifier:
    """Margins of a booster saved as .json or .ubj, one thread; gives no gradient.

    A binary objective's margin is the log-odds of class 1 and becomes two columns. A booster that
    was stopped early answers with its best iteration, as its scikit-learn face does.

    Raises: UsageError for a file that cannot be read, or of no classifier that fits `spec`.
    """

    def __init__(self, path: Path | str, spec: InputSpec) -> None:
        try:
            import xgboost
        except ImportError:
            raise UsageError(f"XGBoost files {_INSTALL}") from None
        _must_exist(Path(path))
        self.booster = xgboost.Booster()
        try:
            self.booster.load_model(path)
        except (xgboost.core.XGBoostError, ValueError) as error:
            first = _WHERE.sub("", str(error).strip().partition("\n")[0])
            raise UsageError(f"{path} cannot be read as an XGBoost file: {first}") from None
        self.booster.set_param({"nthread": 1})
        facts = json.loads(self.booster.save_config())["learner"]
        objective = str(facts["objective"]["name"])
        classes = int(facts["learner_model_param"]["num_class"])
        if objective.startswith("binary:"):
            classes = 2
        _must_fit(Path(path), objective, classes, self.booster.num_features(), spec)
        best = self.booster.attr("best_iteration")
        self.trees = None if best is None else int(best) + 1  # None: all of them
        self.classes = classes

    def __call__(self, x: Tensor) -> Tensor:
        if not len(x):
            return x.new_zeros(0, self.classes)
        rows = x.detach().flatten(1).cpu().numpy().astype(np.float32)
        margins = self.booster.inplace_predict(
            rows, iteration_range=(0, self.trees or 0), predict_type="margin"
        )
        return _logits(margins, x)


class LightGBMClassifier:
    """Raw scores of a booster saved as .txt, one thread; gives no gradient.

    A binary objective's raw score times its sigmoid parameter is the log-odds of class 1 and
    becomes two columns.

    Raises: UsageError for a file that cannot be read, or of no classifier that fits `spec`.
    """

    def __init__(self, path: Path | str, spec: InputSpec) -> None:
        try:
            import lightgbm
        except ImportError:
            raise UsageError(f"LightGBM files {_INSTALL}") from None
        _must_exist(Path(path))
        facts = _header(Path(path))
        try:
            self.booster: Any = lightgbm.Booster(model_file=str(path))
        except lightgbm.basic.LightGBMError as error:
            raise UsageError(f"{path} cannot be read as a LightGBM file: {error}") from None
        objective, *parameters = facts.get("objective", "none").split()
        classes = 2 if objective == "binary" else int(facts["num_class"])
        _must_fit(Path(path), objective, classes, self.booster.num_feature(), spec)
        given = dict(each.partition(":")[::2] for each in parameters)
        self.scale = float(given.get("sigmoid", 1.0)) if classes == 2 else 1.0
        self.classes = classes

    def __call__(self, x: Tensor) -> Tensor:
        if not len(x):
            return x.new_zeros(0, self.classes)
        rows = x.detach().flatten(1).cpu().numpy()
        raw = self.booster.predict(rows, raw_score=True, num_threads=1)
        return _logits(self.scale * np.asarray(raw), x)


def _logits(margins: np.ndarray, x: Tensor) -> Tensor:
    columns = margins if margins.ndim == 2 and margins.shape[1] > 1 else two_columns(margins)
    return torch.from_numpy(np.asarray(columns, dtype=np.float32)).to(x)


def _header(path: Path) -> dict[str, str]:
    """The settings at the head of a LightGBM file that is whole: its library ends the process,
    rather than raise, where a tree is cut off.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read as a LightGBM file: {error}") from None
    head, _, _ = content.partition(b"\nTree=0\n")
    lines = head.decode("utf-8", "replace").splitlines()
    facts = {
        key.strip(): value.strip() for key, _, value in (each.partition("=") for each in lines)
    }
    if not lines or lines[0].strip() != "tree" or not facts.get("num_class", "").isdecimal():
        raise UsageError(f"{path} cannot be read as a LightGBM file: it does not begin as one")
    if not _whole(content, len(head) + 1, facts.get("tree_sizes", "").split()):
        raise UsageError(
            f"{path} cannot be read as a LightGBM file: its trees are not of the sizes it names. "
            "Was it cut off, or edited? Save the booster again"
        )
    return facts


def _whole(content: bytes, start: int, sizes: list[str]) -> bool:
    """Whether trees of so many bytes stand one after the other from `start`, and then the end."""
    for number, size in enumerate(sizes):
        if not size.isdecimal() or not content.startswith(b"Tree=%d\n" % number, start):
            return False
        start += int(size)
    return bool(sizes) and content.startswith(b"end of trees", start)


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"the model {path} does not exist: check model.file")


def _must_fit(path: Path, objective: str, classes: int, features: int, spec: InputSpec) -> None:
    """Before the library sees a row: some predict from rows of any length."""
    if not objective.startswith(("binary", "multi")):
        raise UsageError(
            f"{path} must be a classifier, binary or multi-class. Got the objective {objective!r}"
        )
    if classes != spec.classes:
        raise UsageError(f"{path} must know {spec.classes} classes, as the data. Got {classes}")
    wide = int(np.prod(spec.shape))
    if features != wide:
        raise UsageError(f"{path} must take {wide} features a row, as the data. Got {features}")
