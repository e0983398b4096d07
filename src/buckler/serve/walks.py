"""Applications that walk towards the threshold, seen in what was answered, off the path."""

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from buckler.ops.walks import Walks
from buckler.serve.observe import Log
from buckler.serve.watch import Seen


class WalkWatcher(Collector):
    """Of a bundle with named columns: a line in the log and a count for each walk.

    Args:
        log: None: silent.
    """

    def __init__(self, log: Log | None, walks: Walks | None = None) -> None:
        self._walks, self._log = walks or Walks(), log
        self.found: Counter[str] = Counter()

    def saw(self, seen: Sequence[Seen]) -> None:
        for each in seen:
            rows = zip(each.x.tolist(), each.judged.probabilities.tolist(), strict=True)
            for row, scores in rows:
                walk = self._walks.saw(each.key_id, row, scores)
                if walk is None:
                    continue
                self.found[walk.client] += 1
                if self._log is not None:
                    facts = {"key": walk.client, "length": walk.length, "p": walk.p}
                    self._log({"event": "walk", "request_id": each.request_id, **facts})

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "buckler_walks",
            "Near-equal applications of one client whose score fell from one to the next",
            sum(self.found.values()),
        )
