"""The alarms of `buckler.ops.alarms` on simulated traffic, beside ADWIN, Page-Hinkley and PSI."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import numpy as np

from benchmarks.operate_kept import Keep, anew
from benchmarks.operate_monitor_traffic import (
    CALIBRATION,
    CLASSES,
    LONGEST,
    Bundle,
    Numbers,
    calibrated,
    codes,
    mixed,
)
from benchmarks.results_file import Bar
from buckler.ops.alarms import State, step
from buckler.ops.charts import CONTAMINATION, SHARES, watched
from buckler.ops.cusum import Run, chart, run, run_length
from buckler.ops.rows import columns, encode, ranks_of, worst
from buckler.ops.season import Factors
from buckler.stats import conformal_p_ordered, wilson

Row = dict[str, Any]
ARL: Final = 1e6
QUARTER: Final = 90 * 1e6  # one false alarm a quarter at a million rows a day
BATCH: Final = 256
CLEAN_BEFORE: Final = 5_000
STREAMS: Final = (("deep", 0.02), ("deep", 0.05), ("deep", 0.2), ("shallow", 0.02))
PSI_WINDOW: Final = 2000
_FOLD: Final = 1024
_EVEN: Final = Factors(1.0, 1.0, (1.0,) * CLASSES)  # every hour of the week like the others


class Detector(Protocol):
    """Of river."""

    drift_detected: bool

    def update(self, x: float) -> object: ...


def monitor(quick: bool, keep: Keep = anew) -> tuple[list[Row], list[Bar]]:
    """The rows of every system on every stream, and what was asked."""
    runs, millions = (10, 1) if quick else (50, 10)
    systems: dict[str, Callable[[Bundle, Numbers, int], list[int]]] = {
        "buckler, 1 a million": lambda b, c, s: pages(b, c, s, ARL),
        "buckler, 1 a quarter": lambda b, c, s: pages(b, c, s, QUARTER),
        "tail CUSUM alone, rate known": tail_alone,
        "tail CUSUM alone, its calibration's worst": tail_calibrated,
        "PSI > 0.2, windows of 2,000": psi,
        **peers(),
    }
    rows = [row(name, system, runs, millions, keep) for name, system in systems.items()]
    cost = microseconds(200_000 if quick else 1_000_000)
    rows.append({"system": "buckler, 1 a million", "microseconds": cost})
    for n in (2_000, CALIBRATION):
        between = keep(f"monitor lengths {n}", partial(lengths, n))
        rows.append({"calibration": n, "between": between})
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
    name: str,
    system: Callable[[Bundle, Numbers, int], list[int]],
    runs: int,
    millions: int,
    keep: Keep = anew,
) -> Row:
    """False alarms on clean rows, and the median row of the first alarm a stream, over `runs`.

    An alarm before the change is not counted as one after it; a run without any counts as LONGEST.
    """
    found: Row = {"system": name, "clean_rows": millions * 1_000_000, "runs": runs}
    found["false"] = keep(f"monitor {name} clean {millions}", partial(false, system, millions))
    for kind, share in STREAMS:
        key = f"{kind} {100 * share:g} %"
        late = keep(f"monitor {name} {key} {runs}", partial(delays, system, kind, share, runs))
        found[key] = statistics.median(late)
        found[f"{key}, missed"] = sum(delay >= LONGEST for delay in late)
    return found


def false(system: Callable[[Bundle, Numbers, int], list[int]], millions: int) -> int:
    """Alarms in so many million clean rows, each million with a calibration set of its own."""
    alarms = 0
    for seed in range(millions):
        random = np.random.default_rng((0, seed))
        bundle, clean = calibrated(random), random.beta(12, 1.2, 1_000_000)
        alarms += len(system(bundle, clean, seed))
    return alarms


def delays(
    system: Callable[[Bundle, Numbers, int], list[int]], kind: str, share: float, runs: int
) -> list[int]:
    """Rows from the change to the first alarm after it, a run."""
    found = []
    for seed in range(runs):
        random = np.random.default_rng((1, seed))
        bundle = calibrated(random)
        stream = np.concatenate(
            [random.beta(12, 1.2, CLEAN_BEFORE), mixed(random, bundle, kind, share)]
        )
        after = [at - CLEAN_BEFORE + 1 for at in system(bundle, stream, seed)]
        found.append(next((delay for delay in after if delay > 0), LONGEST))
    return found


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


def tail_calibrated(bundle: Bundle, confidence: Numbers, seed: int) -> list[int]:
    """As the monitor builds it: the reference is the worst that 95 % of calibrations allow."""
    found = watched(bundle.reference, ARL * SHARES["tail"], None, _EVEN)
    (made,) = (each.chart for each in found if each.statistic == "tail")
    tail = columns(bundle.reference, codes(bundle, confidence, seed))["tail"]
    return [at for at, *_ in run(made, Run(0, 0, 0), np.minimum(tail, 1)).alarms]


def lengths(calibration: int, draws: int = 400) -> list[float]:
    """Rows between two false alarms of a chart made for 1 M, where the tail's true rate is what
    its calibration set of that size left it at: quantiles 5 %, 50 %, 95 %, for a chart that takes
    its rate for exact, then for one that takes the worst of 95 %. No simulation: `run_length`.
    """
    rank = ranks_of(calibration)[0]
    rates = np.random.default_rng(5).beta(rank, calibration + 1 - rank, draws)
    found = []
    for null in (rank / (calibration + 1), worst(rank - 1, calibration)):
        hit = null + CONTAMINATION * (0.85 - null)
        made = chart((1 - null, null), (1 - hit, hit), ARL)
        true = [run_length(made.weights, (1 - p, p), made.limit) for p in rates.tolist()]
        found += np.quantile(np.minimum(true, 1e12), [0.05, 0.5, 0.95]).tolist()
    return found


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
    lines += [
        "",
        "A tail CUSUM made for 1 M rows between two false alarms: what it has, by the luck",
    ]
    lines += ["of its calibration set (5 %, median, 95 %).", ""]
    lines += ["| calibration rows | rate taken as exact | the worst of 95 % |", "|---|---|---|"]
    for each in rows:
        if "between" in each:
            cells = [f"{value:,.0f}" for value in each["between"]]
            exact, safe = ", ".join(cells[:3]), ", ".join(cells[3:])
            lines.append(f"| {each['calibration']:,} | {exact} | {safe} |")
    return "\n".join(lines)


if __name__ == "__main__":
    measured, asked = monitor(quick=True)
    print(table(measured))
    for bar in asked:
        print(f"{bar.name}: {bar.value:.4g} {bar.op} {bar.bar:g} {'met' if bar.met else 'UNMET'}")
