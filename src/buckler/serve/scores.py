"""How anomalous and how sure the answers are: histograms that every gateway adds to the record."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from buckler.guard import Guard
from buckler.ops.rows import CONFIDENCE
from buckler.serve.monitor import reference_of
from buckler.serve.watch import Seen
from buckler.store.recorder import Event, Recorder
from buckler.store.traffic import SCORES

ANOMALY: Final = 20
"""Bins of the anomaly score, which is even between 0 and 1 on clean rows if it was calibrated."""
_EVERY_S: Final = 30.0


class Scores:
    """A watcher. The bins of the confidence are tenths of the calibration's clean rows, or of 0 to
    1 where the calibration does not tell."""

    def __init__(
        self,
        recorder: Recorder,
        guards: Callable[[], Sequence[Guard]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorder, self._guards, self._clock = recorder, guards, clock
        self._change = threading.Lock()
        self._bins: dict[str, dict[str, list[int]]] = {}
        self._cuts: dict[str, tuple[float, ...]] = {}
        self._told = clock()

    def saw(self, seen: Sequence[Seen]) -> None:
        self._meet()
        with self._change:
            for each in seen:
                for verdict in each.judged.verdicts:
                    cuts = self._cuts.get(verdict.bundle)
                    if cuts is None:
                        continue
                    empty = {"anomaly": [0] * ANOMALY, "confidence": [0] * CONFIDENCE}
                    bins = self._bins.setdefault(verdict.bundle, empty)
                    anomaly = int(np.clip(verdict.anomaly_score * ANOMALY, 0, ANOMALY - 1))
                    bins["anomaly"][anomaly] += 1
                    bins["confidence"][int(np.searchsorted(cuts, verdict.confidence))] += 1
        if self._clock() - self._told >= _EVERY_S:
            self.tell()

    def tell(self) -> None:
        """Hand on what was seen since the last time."""
        with self._change:
            bins, self._bins = self._bins, {}
            self._told = self._clock()
        for digest, counts in bins.items():
            facts = {"bundle": digest, "bins": counts}
            self._recorder.record(Event(SCORES, facts=facts))

    def _meet(self) -> None:
        for guard in self._guards():
            if guard.digest not in self._cuts:
                self._cuts[guard.digest] = confidence_cuts(guard)[0]


def confidence_cuts(guard: Guard) -> tuple[tuple[float, ...], bool]:
    """The confidences between the bins, and whether they are the calibration's tenths."""
    tenths = reference_of(guard).confident
    if tenths:
        return tenths, True
    return tuple(n / CONFIDENCE for n in range(1, CONFIDENCE)), False
