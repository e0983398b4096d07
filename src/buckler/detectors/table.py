"""What is odd about a row of a table: values no row may hold, and values few rows hold together."""

import json
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor

from buckler.protocols import Features
from buckler.threats.features import FeatureSpec
from buckler.threats.features.written import from_dict, to_dict

_BINS = 20
_ODD_ONE_OUT = 0.5  # of a row: what an empty bin is taken to hold


class Constraints:
    """How many rules a row breaks and how many columns lie outside their range, as a share of both.

    0 for a row that the spec allows. A hair is added by how far the values outside lie, so that of
    two rows the worse scores higher. It has no gradient: a row keeps the rules, or it does not.
    """

    name = "constraints"

    def __init__(self, spec: np.ndarray) -> None:
        """spec: the declaration as JSON, uint8."""
        self._state = np.asarray(spec, np.uint8)
        self.spec: FeatureSpec = from_dict(json.loads(self._state.tobytes()))

    @classmethod
    def of(cls, spec: FeatureSpec) -> Self:
        return cls(np.frombuffer(json.dumps(to_dict(spec)).encode(), np.uint8))

    def score(self, features: Features) -> Tensor:
        x = features.views[0].detach()
        spec = self.spec
        raw = spec.decode(x)
        columns = spec.columns(raw)
        found = torch.zeros(len(x), dtype=torch.float64)
        for rule in spec.compiled:
            found += ~rule.holds(columns)
        far = torch.zeros_like(found)
        for index, feature in enumerate(spec.features):
            low, high = feature.ends
            if feature.derived is not None:
                continue
            over = (raw[:, index] - high).clamp(min=0) + (low - raw[:, index]).clamp(min=0)
            scale = 1 + max(abs(end) for end in (low, high, 0.0) if np.isfinite(end))
            outside = over > 1e-6 * scale
            if feature.kind == "integer":
                outside |= raw[:, index] != raw[:, index].round()
            found += outside
            far += torch.where(outside, over / scale, 0.0)
        score = (found + far / (1 + far)) / (len(spec.features) + len(spec.rules))
        return score.to(x)

    def state(self) -> Mapping[str, np.ndarray]:
        return {"spec": self._state}


class Density:
    """Minus the mean log-density of a row's columns, each by its own histogram (HBOS, Goldstein and
    Dengel 2012): columns are taken to be independent, so it sees odd values, not odd pairs.

    It has no gradient: it is a histogram.
    """

    name = "density"

    def __init__(self, edges: np.ndarray, scores: np.ndarray) -> None:
        """edges (d, bins − 1), between the bins, of which the outermost hold what was never seen;
        scores (d, bins), −log of each one's density."""
        self._edges = torch.from_numpy(np.ascontiguousarray(edges, np.float64))
        self._scores = torch.from_numpy(np.ascontiguousarray(scores, np.float64))

    @classmethod
    def fit(cls, features: Features) -> Self:
        x = features.views[0].flatten(1).double().cpu()
        n, wide = x.shape
        edges = np.full((wide, _BINS + 1), np.inf)
        scores = np.zeros((wide, _BINS + 2))
        for column in range(wide):
            values = x[:, column].contiguous()
            different = values.unique()
            if len(different) <= _BINS:
                cut = (different[1:] + different[:-1]) / 2
            else:
                shares = torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)[1:-1]
                cut = torch.quantile(values, shares).unique()
            below = np.nextafter(float(different[0]), -np.inf)
            ends = np.array([below, *cut.tolist(), float(different[-1])])
            ends = np.unique(ends)
            edges[column, : len(ends)] = ends
            which = torch.searchsorted(torch.from_numpy(edges[column]), values)
            counts = torch.bincount(which, minlength=_BINS + 2).double() + _ODD_ONE_OUT
            scores[column] = -(counts / (n + _ODD_ONE_OUT * (_BINS + 2))).log().numpy()
        return cls(edges, scores)

    def score(self, features: Features) -> Tensor:
        x = features.views[0].detach().flatten(1)
        which = torch.searchsorted(self._edges, x.double().cpu().T.contiguous())
        return self._scores.gather(1, which).mean(0).to(x)

    def state(self) -> Mapping[str, np.ndarray]:
        return {"edges": self._edges.numpy(), "scores": self._scores.numpy()}
