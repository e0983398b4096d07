"""Boosters that hold: columns the attacker moves cheaply are kept out, limited, or trained against.

Three means, by how sure they are. A column that the budget moves one way only gets a monotone
constraint: going there never helps. A column it moves both ways is left to the last few rounds, so
that all of it together cannot outweigh the rest. Then the cheapest evasions of the caught rows are
trained on, again and again.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from buckler import draws
from buckler.attacks import PriceSearch
from buckler.attacks.rows import split_values
from buckler.errors import DataError, UsageError
from buckler.inputs import InputSpec
from buckler.models import LightGBMClassifier, XGBoostClassifier, split_points
from buckler.models.alerts import Alerting, threshold_at
from buckler.protocols import Attack, Classifier, Progress
from buckler.threats.features import FeatureThreat

Booster = XGBoostClassifier | LightGBMClassifier
_SUFFIX = {"xgboost": ".json", "lightgbm": ".txt"}


@dataclass(frozen=True)
class BoostingRecipe:
    """Args:
    library: whose booster it is.
    rounds, depth, rate: trees, their depth, and the step each goes.
    open_rounds: how many of the rounds, the last ones, may use columns the attacker moves both
        ways. 0: the evasion margin of a row is zero by construction; `rounds`: an ordinary booster.
    monotone: constrain the columns that the attacker moves one way only.
    retrains: times that the caught rows' cheapest evasions are found and trained on.
    attacked: caught rows attacked each time, drawn by seed.
    alerts: the share of good rows that become alerts, where an evasion has to get below.
    """

    library: Literal["xgboost", "lightgbm"] = "xgboost"
    rounds: int = 200
    depth: int = 3
    rate: float = 0.1
    open_rounds: int = 0
    monotone: bool = True
    retrains: int = 0
    attacked: int = 1000
    alerts: float = 0.05

    def __post_init__(self) -> None:
        if self.library not in _SUFFIX:
            raise UsageError(f"library must be xgboost or lightgbm. Got {self.library!r}")
        if not 0 <= self.open_rounds <= self.rounds or min(self.rounds, self.depth) < 1:
            raise UsageError(
                "a booster needs rounds and depth >= 1 and 0 <= open_rounds <= rounds. "
                f"Got {self.rounds}, {self.depth}, {self.open_rounds}"
            )


def constraints(threat: FeatureThreat) -> tuple[int, ...]:
    """For each of the classifier's columns +1, −1 or 0: the way in which the score of class 1 must
    not fall, where the attacker can pay for that way alone."""
    signs = {"up": 1, "down": -1, "none": 0, "both": 0}
    ways = zip(threat.spec.features, threat.reaches, strict=True)
    return tuple(sign for each, way in ways for sign in [signs[way]] * each.wide)


def moved_cheaply(threat: FeatureThreat) -> tuple[int, ...]:
    """The classifier's columns that the budget moves both ways."""
    ways = zip(threat.spec.features, threat.reaches, strict=True)
    columns = [way == "both" for each, way in ways for _ in range(each.wide)]
    return tuple(index for index, cheap in enumerate(columns) if cheap)


def search(model: Booster, threat: FeatureThreat) -> Attack:
    """The default attack: priced moves over the values that tell the trees' leaves apart."""
    spec = threat.spec
    values = split_values(spec, split_points(model, spec.width))
    return PriceSearch(width=1, depth=2, tries=12, values=values)


def harden_boosting(
    x: Tensor,
    y: Tensor,
    threat: FeatureThreat,
    recipe: BoostingRecipe,
    *,
    attack: Callable[[Booster, FeatureThreat], Attack] = search,
    seed: int = 0,
    progress: Progress | None = None,
) -> Booster:
    """A booster trained on x (n, width), y (n,) 1 = to be caught, against this threat.

    The model's own `booster` saves itself (`.json` or `.txt`). Fit the threshold afterwards, on
    rows kept apart (`at_capacity`).

    Raises: DataError for rows of one class or labels other than 0 and 1.
    """
    if set(y.unique().tolist()) != {0, 1}:
        raise DataError(f"hardening needs rows of class 0 and 1. Got {y.unique().tolist()}")
    signs = constraints(threat) if recipe.monotone else (0,) * threat.spec.width
    closed = recipe.rounds - recipe.open_rounds
    ones = torch.ones(len(x))
    base = None
    if closed:
        blank = x.clone()
        blank[:, list(moved_cheaply(threat))] = 0  # a constant column is never split on
        base = _grown(recipe, blank, y, ones, signs, closed, None, seed)
    model = _opened(recipe, base, x, y, ones, threat, signs, seed)
    caught = (y == 1).nonzero()[:, 0]
    order = draws.permutation(draws.derive(seed, "attacked"), 0, len(caught))
    rows = caught[order[: recipe.attacked]]
    found, owners = x[:0], rows[:0]
    for turn in range(recipe.retrains if recipe.open_rounds else 0):
        alerting = Alerting(model, _threshold(model, x[y == 0], recipe.alerts))
        x_adv = attack(model, threat)(alerting, x[rows], y[rows], threat, seed=seed, rows=rows)
        moved = (x_adv != x[rows]).any(1)
        found, owners = torch.cat([found, x_adv[moved]]), torch.cat([owners, rows[moved]])
        # A row and its evasions weigh together what the row weighed before.
        weights = 1.0 / (1 + torch.bincount(owners, minlength=len(x)).float())
        model = _opened(
            recipe,
            base,
            torch.cat([x, found]),
            torch.cat([y, torch.ones(len(found), dtype=y.dtype)]),
            torch.cat([weights, weights[owners]]),
            threat,
            signs,
            seed,
        )
        if progress is not None:
            progress(turn + 1, recipe.retrains)
    return model


def _threshold(model: Classifier, good: Tensor, share: float) -> float:
    return threshold_at(Alerting(model).score(good), share)


def _opened(
    recipe: BoostingRecipe, base: Any, x: Tensor, y: Tensor, weights: Tensor,
    threat: FeatureThreat, signs: tuple[int, ...], seed: int,
) -> Booster:  # fmt: skip
    """The rounds that may use every column, after those that may not; read back from its file."""
    booster = base
    if recipe.open_rounds:
        booster = _grown(recipe, x, y, weights, signs, recipe.open_rounds, base, seed)
    spec = InputSpec((threat.spec.width,), ("0", "1"), threat.box)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"booster{_SUFFIX[recipe.library]}"
        booster.save_model(str(path))
        opened = XGBoostClassifier if recipe.library == "xgboost" else LightGBMClassifier
        return opened(path, spec)


def _grown(
    recipe: BoostingRecipe, x: Tensor, y: Tensor, weights: Tensor, signs: tuple[int, ...],
    rounds: int, base: Any, seed: int,
) -> Any:  # fmt: skip
    """`base` with so many more trees."""
    rows, labels, mass = x.numpy().astype(np.float32), y.numpy(), weights.numpy()
    if recipe.library == "xgboost":
        import xgboost

        settings = {
            "objective": "binary:logistic", "max_depth": recipe.depth, "eta": recipe.rate,
            "monotone_constraints": f"({','.join(map(str, signs))})", "nthread": 1, "seed": seed,
        }  # fmt: skip
        data = xgboost.DMatrix(rows, labels, weight=mass)
        return xgboost.train(settings, data, rounds, xgb_model=base)
    import lightgbm

    settings = {
        "objective": "binary", "max_depth": recipe.depth, "num_leaves": 2**recipe.depth,
        "learning_rate": recipe.rate, "monotone_constraints": list(signs), "num_threads": 1,
        "seed": seed, "deterministic": True, "verbose": -1,
    }  # fmt: skip
    if not any(signs):
        del settings["monotone_constraints"]
    data = lightgbm.Dataset(rows, labels, weight=mass, free_raw_data=False)
    return lightgbm.train(settings, data, rounds, init_model=base)
