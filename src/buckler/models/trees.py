"""The trees of an ensemble: where they split, and as a plain structure."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.models.boosting import LightGBMClassifier, XGBoostClassifier
from buckler.models.estimator import EstimatorClassifier
from buckler.protocols import Classifier


def split_points(model: Classifier, width: int) -> tuple[Tensor, ...]:
    """For each of `width` columns the split points (k,) float64, rising.

    Args:
        model: an XGBoostClassifier, a LightGBMClassifier, or an EstimatorClassifier of
            scikit-learn's forests or gradient boosting.

    Raises: UsageError for any other, and for boosters that split on sets of categories.
    """
    found: list[set[float]] = [set() for _ in range(width)]
    if isinstance(model, XGBoostClassifier):
        for dump in model.booster.get_dump(dump_format="json"):
            _xgboost(json.loads(dump), found, model.booster.feature_names)
    elif isinstance(model, LightGBMClassifier):
        for tree in model.booster.dump_model()["tree_info"]:
            _lightgbm(tree["tree_structure"], found)
    elif isinstance(model, EstimatorClassifier) and hasattr(model.estimator, "estimators_"):
        # A forest's are a list, a boosting's a matrix.
        for each in np.ravel(np.array(model.estimator.estimators_, dtype=object)):
            tree = each.tree_
            for column, at in zip(tree.feature, tree.threshold, strict=True):
                if column >= 0:
                    found[column].add(float(at))
    else:
        raise UsageError(
            "split points come from an XGBoost, LightGBM or scikit-learn ensemble of trees. "
            f"Got {type(model).__name__}"
        )
    return tuple(torch.tensor(sorted(each), dtype=torch.float64) for each in found)


def _xgboost(node: dict[str, Any], found: list[set[float]], names: list[str] | None) -> None:
    if "children" not in node:
        return
    if isinstance(node["split_condition"], list):
        raise UsageError("split points need numbers: this booster splits on sets of categories")
    column = str(node["split"])
    index = names.index(column) if names else int(column.removeprefix("f"))
    found[index].add(float(node["split_condition"]))
    for child in node["children"]:
        _xgboost(child, found, names)


def _lightgbm(node: dict[str, Any], found: list[set[float]]) -> None:
    if "split_feature" not in node:
        return
    if node["decision_type"] != "<=":
        raise UsageError("split points need numbers: this booster splits on sets of categories")
    found[int(node["split_feature"])].add(float(node["threshold"]))
    _lightgbm(node["left_child"], found)
    _lightgbm(node["right_child"], found)


@dataclass(frozen=True)
class Split:
    """Rows with column < at (float32) go left."""

    column: int
    at: float
    left: "Split | float"
    right: "Split | float"


def trees_of(model: XGBoostClassifier | LightGBMClassifier) -> list[Split | float]:
    """The trees of a binary booster that it answers with; a leaf is its share of the log-odds.

    Raises: UsageError for more classes, and for splits on sets of categories.
    """
    if model.classes != 2:
        raise UsageError(f"trees are read of binary boosters. Got {model.classes} classes")
    if isinstance(model, XGBoostClassifier):
        split_points(model, model.booster.num_features())  # refuses sets of categories
        names = model.booster.feature_names
        dumps = model.booster.get_dump(dump_format="json")[: model.trees]
        return [_xgboost_tree(json.loads(dump), names) for dump in dumps]
    split_points(model, int(model.booster.num_feature()))
    every = model.booster.dump_model()["tree_info"]
    return [_lightgbm_tree(tree["tree_structure"], model.scale) for tree in every]


def _xgboost_tree(node: dict[str, Any], names: list[str] | None) -> Split | float:
    if "leaf" in node:
        return float(node["leaf"])
    children = {each["nodeid"]: each for each in node["children"]}
    column = str(node["split"])
    return Split(
        names.index(column) if names else int(column.removeprefix("f")),
        float(np.float32(node["split_condition"])),
        _xgboost_tree(children[node["yes"]], names),
        _xgboost_tree(children[node["no"]], names),
    )


def _lightgbm_tree(node: dict[str, Any], scale: float) -> Split | float:
    if "leaf_value" in node:
        return scale * float(node["leaf_value"])
    return Split(
        int(node["split_feature"]),
        _beyond(float(node["threshold"])),
        _lightgbm_tree(node["left_child"], scale),
        _lightgbm_tree(node["right_child"], scale),
    )


def _beyond(threshold: float) -> float:
    """The least float32 above it: x <= threshold is x < that."""
    single = np.float32(threshold)
    if float(single) > threshold:
        return float(single)
    return float(np.nextafter(single, np.float32(np.inf)))
