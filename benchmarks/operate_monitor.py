"""The alarms of `buckler.ops.alarms` on simulated traffic, beside ADWIN, Page-Hinkley and PSI.

Clean confidences are Beta(12, 1.2), adversarial ones Beta(2, 3): 2 % of them put 2.7 % of the rows
below the clean 1 % quantile. "shallow" ones lie just within that tail, as those of an attacker who
knows the detector. Every run draws its own calibration set, as every bundle does.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.results_file import Bar
from buckler.ops.alarms import State, step
from buckler.ops.cusum import Run, chart, run
from buckler.ops.rows import Reference, encode, ranks_of
from buckler.stats import conformal_p_ordered, conformal_threshold, wilson

Row = dict[str, Any]
Numbers = NDArray[np.float64]
CLASSES: Final = 10
CALIBRATION: Final = 10_000
ARL: Final = 1e6
QUARTER: Final = 90 * 1e6  # one false alarm a quarter at a million rows a day
BATCH: Final = 256
CLEAN_BEFORE: Final = 5_000
LONGEST: Final = 20_000
STREAMS: Final = (("deep", 0.02), ("deep", 0.05), ("deep", 0.2), ("shallow", 0.02))
PSI_WINDOW: Final = 2000
_FOLD: Final = 1024


@dataclass(frozen=True)
class Bundle:
    """A calibration set, and the reference that it is."""

    scores: Numbers
    reference: Reference
    threshold: float


class Detector(Protocol):
    """Of river."""

    drift_detected: bool

    def update(self, x: float) -> object: ...


def monitor(quick: bool) -> tuple[list[Row], list[Bar]]:
    """The rows of every system on every stream, and what was asked."""
    runs, millions = (10, 1) if quick else (50, 10)
    systems: dict[str, Callable[[Bundle, Numbers, int], list[int]]] = {
        "buckler, 1 a million": lambda b, c, s: pages(b, c, s, ARL),
        "buckler, 1 a quarter": lambda b, c, s: pages(b, c, s, QUARTER),
        "tail CUSUM alone, rate known": tail_alone,
        "PSI > 0.2, windows of 2,000": psi,
        **peers(),
    }
    rows = [row(name, system, runs, millions) for name, system in systems.items()]
    cost = microseconds(200_000 if quick else 1_000_000)
    rows.append({"system": "buckler, 1 a million", "microseconds": cost})
    ours, alone = rows[0], rows[2]
    n = ours["clean_rows"]
    rate = wilson(ours["false"], n)
    return rows, [
        Bar(
            "monitor: false alarms a million clean events, all paging statistics",
            1e6 * ours["false"] / n,
            n,
            (1e6 * rate.low, 1e6 * rate.high),
            "<=",
            1.0,
        ),
        Bar(
            "monitor: events to the alarm at 2 % contamination, median",
            ours["deep 2 %"],
            runs,
            None,
            "<=",
            1000.0,
        ),
        Bar(
            "monitor: the same, tail CUSUM alone at ARL0 1 M",
            alone["deep 2 %"],
            runs,
            None,
            "<=",
            800.0,
        ),
        Bar("monitor: microseconds of CPU an event", cost, n, None, "<=", 5.0),
    ]


def row(
    name: str, system: Callable[[Bundle, Numbers, int], list[int]], runs: int, millions: int
) -> Row:
    """False alarms on clean rows, and the median row of the first alarm a stream, over `runs`.

    An alarm before the change is not counted as one after it; a run without any counts as LONGEST.
    """
    found: Row = {"system": name, "clean_rows": millions * 1_000_000, "false": 0, "runs": runs}
    for seed in range(millions):
        random = np.random.default_rng((0, seed))
        bundle, clean = calibrated(random), random.beta(12, 1.2, 1_000_000)
        found["false"] += len(system(bundle, clean, seed))
    for kind, share in STREAMS:
        delays = []
        for seed in range(runs):
            random = np.random.default_rng((1, seed))
            bundle = calibrated(random)
            stream = np.concatenate(
                [random.beta(12, 1.2, CLEAN_BEFORE), mixed(random, bundle, kind, share)]
            )
            after = [at - CLEAN_BEFORE + 1 for at in system(bundle, stream, seed)]
            delays.append(next((delay for delay in after if delay > 0), LONGEST))
        key = f"{kind} {100 * share:g} %"
        found[key] = statistics.median(delays)
        found[f"{key}, missed"] = sum(delay >= LONGEST for delay in delays)
    return found


def calibrated(random: np.random.Generator) -> Bundle:
    confidence = np.sort(random.beta(12, 1.2, CALIBRATION))
    threshold = conformal_threshold((-confidence).tolist(), 0.01)
    low = float(np.quantile(random.beta(100, CALIBRATION + 1 - 100, 100_000), 0.05))
    reference = Reference(
        tuple(map(str, range(CLASSES))),
        CALIBRATION,
        ranks_of(CALIBRATION),
        (low, threshold.expected, threshold.upper),
        tuple(np.quantile(confidence, np.arange(1, 10) / 10).tolist()),
    )
    return Bundle(-confidence[::-1], reference, threshold.value)


def mixed(random: np.random.Generator, bundle: Bundle, kind: str, share: float) -> Numbers:
    rows = random.beta(12, 1.2, LONGEST)
    odd = random.random(LONGEST) < share
    if kind == "deep":
        rows[odd] = random.beta(2, 3, int(odd.sum()))
    else:
        ranks = random.integers(CALIBRATION - 100, CALIBRATION - 50, int(odd.sum()))
        rows[odd] = -bundle.scores[ranks] - 1e-9
    return rows


def codes(bundle: Bundle, confidence: Numbers, seed: int) -> NDArray[np.uint16]:
    anomaly = 1 - conformal_p_ordered(bundle.scores, -confidence)
    predicted = np.random.default_rng((2, seed)).integers(0, CLASSES, len(confidence))
    return encode(
        bundle.reference,
        anomaly,  # type: ignore[arg-type]
        -confidence > bundle.threshold,  # type: ignore[arg-type]
        predicted,  # type: ignore[arg-type]
        confidence,  # type: ignore[arg-type]
    )


def pages(bundle: Bundle, confidence: Numbers, seed: int, arl: float) -> list[int]:
    """The rows at which any statistic that pages alarms, once the classes are learnt."""
    before = codes(bundle, np.random.default_rng((3, seed)).beta(12, 1.2, 20_000), seed + 1)
    state, _ = step(bundle.reference, arl, State(), before, 0.0)
    state = State(state.seen, 0, state.classes, state.suspicious)
    found, seen = [], codes(bundle, confidence, seed)
    for start in range(0, len(seen), _FOLD):
        part = seen[start : start + _FOLD]
        state, alarms = step(bundle.reference, arl, state, part, 0.0)
        found += [start + alarm.row for alarm in alarms if alarm.tier == "page"]
    return sorted(found)


def tail_alone(bundle: Bundle, confidence: Numbers, seed: int) -> list[int]:
    """Where the clean rate of the tail is known to be 1 %, as the theory assumes."""
    made = chart((0.99, 0.01), (0.973, 0.027), ARL)
    edge = 0.6587492648837037  # the 1 % quantile of Beta(12, 1.2)
    return [at for at, *_ in run(made, Run(0, 0, 0), (confidence < edge).astype(np.int64)).alarms]


def psi(bundle: Bundle, confidence: Numbers, seed: int) -> list[int]:
    """Population stability index over tenths of the calibration rows."""
    found = []
    for end in range(PSI_WINDOW, len(confidence) + 1, PSI_WINDOW):
        window = confidence[end - PSI_WINDOW : end]
        tenths = np.searchsorted(bundle.reference.confident, window)
        share = np.maximum(np.bincount(tenths, minlength=10) / PSI_WINDOW, 1e-4)
        if ((share - 0.1) * np.log(share / 0.1)).sum() > 0.2:
            found.append(end - 1)
    return found


def peers() -> dict[str, Callable[[Bundle, Numbers, int], list[int]]]:
    """River's detectors at their defaults on the confidence; none without river."""
    try:
        from river.drift import ADWIN, PageHinkley
    except ModuleNotFoundError as error:
        print(f"skipped ADWIN and Page-Hinkley: {error.name} is missing")
        return {}

    def stepwise(make: Callable[[], Detector]) -> Callable[[Bundle, Numbers, int], list[int]]:
        def alarms(bundle: Bundle, confidence: Numbers, seed: int) -> list[int]:
            detector, found = make(), []
            for at, value in enumerate(confidence.tolist()):
                detector.update(value)
                if detector.drift_detected:
                    found.append(at)
            return found

        return alarms

    return {"ADWIN (river)": stepwise(ADWIN), "Page-Hinkley (river)": stepwise(PageHinkley)}


def microseconds(rows: int) -> float:
    """CPU of packing and of all charts an event, in batches of BATCH; thresholds are solved."""
    random = np.random.default_rng(4)
    bundle = calibrated(random)
    confidence = random.beta(12, 1.2, rows)
    anomaly = (1 - conformal_p_ordered(bundle.scores, -confidence)).tolist()
    suspicious = (-confidence > bundle.threshold).tolist()
    predicted, sure = random.integers(0, CLASSES, rows).tolist(), confidence.tolist()
    state, _ = step(bundle.reference, ARL, State(), codes(bundle, confidence[:20_000], 0), 0.0)
    step(bundle.reference, ARL, state, codes(bundle, confidence[:1], 0), 0.0)
    start = time.process_time()
    for at in range(0, rows, BATCH):
        part = slice(at, at + BATCH)
        found = encode(
            bundle.reference, anomaly[part], suspicious[part], predicted[part], sure[part]
        )
        state, _ = step(bundle.reference, ARL, state, found, 0.0)
    return 1e6 * (time.process_time() - start) / rows


def table(rows: list[Row]) -> str:
    """Side by side."""
    names = [f"{kind} {100 * share:g} %" for kind, share in STREAMS]
    lines = [
        f"| system | false alarms / clean rows | {' | '.join(names)} |",
        "|---" * (2 + len(names)) + "|",
    ]
    for each in rows:
        if "false" not in each:
            continue
        cells = [
            f"{each[name]:.0f}"
            + (f" ({each[f'{name}, missed']} missed)" if each[f"{name}, missed"] else "")
            for name in names
        ]
        lines.append(
            f"| {each['system']} | {each['false']} / {each['clean_rows']:,} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    measured, asked = monitor(quick=True)
    print(table(measured))
    for bar in asked:
        print(f"{bar.name}: {bar.value:.4g} {bar.op} {bar.bar:g} {'met' if bar.met else 'UNMET'}")
