"""The least and the most a booster answers inside a box, exactly: dtai-veritas does the search."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.models.boosting import LightGBMClassifier, XGBoostClassifier
from buckler.models.trees import Split, trees_of

_INSTALL = 'pip install -e ".[tabular]" in Buckler\'s folder'
_HALF_ULP = 2.0**-24  # of a float32: what each of its additions may lose
_MEMORY = 1 << 28  # bytes a search
_AT_ONCE = 200  # steps between two looks


class WorstCase:
    """The trees of a binary booster (Devos et al. 2021, arXiv:2010.09880), ready for many rows.

    Veritas's own readers are not used: that of LightGBM (0.3.1) moves `<=` splits a step the wrong
    way.

    Args:
        whole: for each column whether only whole numbers occur there.

    Raises: UsageError where Veritas is not installed, and for boosters of more classes.
    """

    def __init__(
        self, model: XGBoostClassifier | LightGBMClassifier, whole: Sequence[bool]
    ) -> None:
        try:
            import veritas
        except ImportError:
            raise UsageError(f"certificates of trees need dtai-veritas: {_INSTALL}") from None
        trees = trees_of(model)
        self._veritas: Any = veritas
        self._up = self._ensemble(trees, whole, 1.0)
        self._down = self._ensemble(trees, whole, -1.0)
        origin = torch.zeros(1, len(whole))
        logits = model(origin).double()
        log_odds = float(logits[0, 1] - logits[0, 0])
        at = origin.numpy().astype(np.float32)
        self.base = log_odds - float(self._up.eval(at)[0, 0])
        largest = sum(map(_largest, trees)) + abs(self.base)
        self.rounding = 2 * (len(trees) + 2) * _HALF_ULP * largest

    def _ensemble(self, trees: list[Split | float], whole: Sequence[bool], sign: float) -> Any:
        made = self._veritas.AddTree(1, self._veritas.AddTreeType.REGR)
        for tree in trees:
            new = made.add_tree()
            _grow(new, new.root(), tree, whole, sign)
        return made

    def beyond(
        self, low: Tensor, high: Tensor, threshold: float, down: bool, steps: int
    ) -> "Outcome":
        """Is there a row in the box low to high, (width,) both and both inside, whose log-odds lie
        below (`down`) or above the threshold?

        Args:
            steps: of the search, after which it gives up.
        """
        veritas, sign = self._veritas, -1.0 if down else 1.0
        need = sign * (threshold - self.base) - self.rounding
        config = veritas.Config(veritas.HeuristicType.MAX_OUTPUT)
        config.stop_when_optimal = False
        config.ignore_state_when_worse_than = need
        config.max_memory = _MEMORY
        ends = zip(_single(low, -np.inf), _single(high, np.inf), strict=True)
        box = [
            veritas.Interval(float(a), float(np.nextafter(b, np.float32(np.inf)))) for a, b in ends
        ]
        search = config.get_search(self._down if down else self._up, box)
        return Outcome(search, steps, veritas.StopReason)


@dataclass
class Outcome:
    """A search that goes on as long as its finds are asked for.

    `found` yields boxes {column: (low, high)}, high not inside, each with a row that is beyond the
    threshold or within rounding of it; when it ends, `exhausted` says whether nothing is left.
    """

    search: Any
    steps: int
    reasons: Any
    exhausted: bool = False

    def found(self) -> Iterator[dict[int, tuple[float, float]]]:
        told, reason = 0, self.reasons.NONE
        for _ in range(max(1, self.steps // _AT_ONCE)):
            reason = self.search.steps(_AT_ONCE)
            while told < self.search.num_solutions():
                solution = self.search.get_solution(told)
                told += 1
                yield {column: (part.lo, part.hi) for column, part in solution.box().items()}
            if reason != self.reasons.NONE:
                break
        self.exhausted = reason == self.reasons.NO_MORE_OPEN


def _single(values: Tensor, towards: float) -> np.ndarray:
    """float32 numbers at or beyond these."""
    wide = values.double().numpy()
    single = wide.astype(np.float32)
    short = single > wide if towards < 0 else single < wide
    return np.where(short, np.nextafter(single, np.float32(towards)), single)


def _grow(made: Any, node: Any, tree: Split | float, whole: Sequence[bool], sign: float) -> None:
    if not isinstance(tree, Split):
        made.set_leaf_value(node, 0, sign * tree)
        return
    # Among whole numbers x < 2.5 is x < 3: no leaf is left without a whole number in it.
    at = float(np.ceil(tree.at)) if whole[tree.column] else tree.at
    made.split(node, tree.column, at)
    _grow(made, made.left(node), tree.left, whole, sign)
    _grow(made, made.right(node), tree.right, whole, sign)


def _largest(tree: Split | float) -> float:
    """The largest size of any leaf."""
    if not isinstance(tree, Split):
        return abs(tree)
    return max(_largest(tree.left), _largest(tree.right))
