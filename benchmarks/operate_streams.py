"""Black-box attacks on a live gateway that looks for runs of near-equal inputs, and streams that
nobody should flag: a part of `benchmarks.operate`."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.attack_nets import load_data
from benchmarks.operate_kept import Keep, anew
from benchmarks.operate_streams_attacks import (
    KEYS,
    STRATEGIES,
    Attacker,
    Line,
    Outcome,
    arsenal,
    attacked,
    fresh_keys,
)
from benchmarks.operate_streams_benign import STILL, streams
from benchmarks.results_file import Bar
from buckler.detectors.confidence import Confidence
from buckler.guard import Guard
from buckler.guard.rule import Thresholds
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.ops.access import Key, Keys, digest_of, prefix_of
from buckler.ops.fingerprint import Looks
from buckler.ops.streams import Rule, Streams
from buckler.serve import Background, Settings
from buckler.stats import wilson

Json = dict[str, Any]
LEVELS = (25, 51, 76)  # eps of 255: the first is within what the rule covers, whatever is sent
ADAPTIVE = ("tags", "shifts")
_SETS = ("mnist", "fashion-mnist", "cifar10-20k")
_RIGHT = 200


@dataclass(frozen=True)
class Figures:
    """What `benchmarks.operate` shows of streams: rows of a table, bars, and the table."""

    rows: list[Json]
    bars: list[Bar]
    table: str


def figures(
    data_dir: Path,
    quick: bool,
    keep: Keep = anew,
    strategies: Sequence[str] = STRATEGIES,
) -> Figures:
    """Everything measured: attacks, benign streams, cost."""
    images, budget = (4, 80) if quick else (20, 300)
    benign = []
    for name in _SETS:
        benign += keep(f"streams benign {name}", partial(benign_rows, name, data_dir, quick))
    outcomes = attacks(data_dir, images, budget, strategies, keep=keep)
    rows = [*attack_rows(outcomes), *benign]
    return Figures(rows, bars(outcomes, benign), table(rows))


def attacks(
    data_dir: Path,
    images: int,
    budget: int,
    strategies: Sequence[str] = STRATEGIES,
    levels: Sequence[int] = LEVELS,
    keep: Keep = anew,
) -> list[Outcome]:
    """All attacks of all strategies on MNIST, against a gateway with the defence; and plain ones
    against one without ("undefended"). "mixed" sends ten times as much, for a third of the images.
    """
    parts = load_data("mnist", data_dir)
    net = _trained(parts.x_fit[:8000], parts.y_fit[:8000])
    with torch.no_grad():
        right = (net(parts.x_test[:_RIGHT]).argmax(1) == parts.y_test[:_RIGHT]).nonzero()[:, 0]
    x, y = parts.x_test[right], parts.y_test[right]
    guard, found = _guard(net), []
    for strategy in ("undefended", *strategies):
        for level in levels:
            for attack in arsenal(budget):
                count = max(1, images // 3) if strategy == "mixed" else images
                data = (x, y, parts.x_test[5000:])
                make = partial(_one_gateway, guard, data, attack, strategy, level, count, budget)
                name = f"streams {strategy} {level} {attack} {count} {budget}"
                found += [Outcome(**each) for each in keep(name, make)]
    return found


def _one_gateway(
    guard: Guard,
    data: tuple[Tensor, Tensor, Tensor],
    attack: str,
    strategy: str,
    level: int,
    images: int,
    budget: int,
) -> list[Json]:
    x, y, others = data
    keys = fresh_keys(images * KEYS)
    ring = Keys(
        Key(f"k{i}", prefix_of(k), digest_of(k), frozenset({"infer"}), float("inf"), 1, None)
        for i, k in enumerate(keys)
    )
    policy = "off" if strategy == "undefended" else "suspicious"
    settings = Settings.read(port=0, expose="scores", streams=policy)
    gateway = Background(guard, settings, log=False, keys=ring)
    with gateway as url:
        line = Line(url)

        def attacker(row: int) -> Attacker:
            mine = range(row * KEYS, (row + 1) * KEYS)
            return Attacker(
                line=line,
                watched=gateway.app.state.streams,
                strategy="plain" if strategy == "undefended" else strategy,
                ids=[f"k{i}" for i in mine],
                keys=[keys[i] for i in mine],
                x=x[row : row + 1],
                y=int(y[row]),
                eps=level / 255,
                budget=budget,
                others=others,
                rng=np.random.default_rng(row),
            )

        found = list(attacked(attacker, images, attack, budget))
    if strategy == "undefended":
        found = [replace(each, strategy=strategy, seen=None) for each in found]
    return [asdict(each) for each in found]


def benign_rows(name: str, data_dir: Path, quick: bool) -> list[Json]:
    """Each kind of stream on a data set, through the rule itself; with CPU time and memory."""
    rows: list[Json] = []
    x = load_data(name, data_dir).x_test
    x = x[:2000] if quick else x
    for kind, stream in streams(x, seed=0, few=300 if quick else 1000):
        seen = Streams(Rule(), Looks(tuple(x.shape[1:]), b"of the benchmark"))
        flagged = n = 0
        clients: set[str] = set()
        ends: Counter[str] = Counter()
        began = time.process_time()
        for client, row in stream:
            alarms = seen.saw(client, row.numpy())
            n, flagged = n + 1, flagged + bool(alarms)
            for alarm in alarms:
                ends[alarm.kind] += 1
                clients |= set(alarm.clients)
        spent = time.process_time() - began
        rows.append(
            {
                "data": name,
                "stream": kind.name,
                "bar": kind.bar,
                "n": n,
                "flagged": flagged,
                "clients_flagged": len(clients),
                "kinds": dict(ends),
                "cpu_ms": 1000 * spent / n,
                "bytes": seen.nbytes / seen.held,
            }
        )
    return rows


def attack_rows(outcomes: Sequence[Outcome]) -> list[Json]:
    """One line an attack, strategy and eps."""
    groups: dict[tuple[str, str, float], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.strategy, outcome.attack, outcome.eps), []).append(outcome)
    rows = []
    for (strategy, attack, eps), mine in groups.items():
        seen = [o.seen for o in mine if o.seen is not None]
        # Who won, or gave up, unseen: a longer run might have been seen.
        rate = wilson(sum(o.won for o in mine), len(mine))
        rows.append(
            {
                "strategy": strategy,
                "attack": attack,
                "eps": round(eps, 3),
                "n": len(mine),
                "success": rate.value,
                "interval": (rate.low, rate.high),
                "seen": len(seen),
                "won_unseen": sum(o.won and o.seen is None for o in mine),
                "median_to_detection": median(seen) if seen else None,
                "median_queries": median(o.queries for o in mine),
            }
        )
    return rows


def bars(outcomes: Sequence[Outcome], benign: Sequence[Json]) -> list[Bar]:
    """What was asked for."""
    found = []
    for attack in dict.fromkeys(o.attack for o in outcomes):
        mine = [o for o in outcomes if o.attack == attack and o.strategy == "plain"]
        # An attack that won before it was seen was not seen at all: it counts as never.
        times = [float("inf") if o.seen is None else float(o.seen) for o in mine]
        if times:
            name = f"streams, {attack}: median queries to detection"
            found.append(Bar(name, median(times), len(times), None, "<=", 20))
    adaptive = [row for row in attack_rows(outcomes) if row["strategy"] in ADAPTIVE]
    for eps in dict.fromkeys(row["eps"] for row in adaptive):
        worst = max((r for r in adaptive if r["eps"] == eps), key=lambda row: row["success"])
        name = f"streams, adaptive at eps {eps:g} ({worst['strategy']}, {worst['attack']}): success"
        found.append(Bar(name, worst["success"], worst["n"], worst["interval"], "<=", 0.25))
    for row in benign:
        if row["stream"] != STILL.name:
            rate = wilson(row["flagged"], row["n"])
            name = f"streams, {row['data']}, {row['stream']}: flagged"
            between = (rate.low, rate.high)
            found.append(Bar(name, rate.value, row["n"], between, "<=", row["bar"]))
    if benign:
        cost = max(row["cpu_ms"] for row in benign)
        found.append(Bar("streams: CPU ms a query", cost, len(benign), None, "<=", 2))
        most = max(row["bytes"] for row in benign)
        found.append(Bar("streams: bytes a query", most, len(benign), None, "<=", 1000))
    return found


def table(rows: Sequence[Json]) -> str:
    """For the page."""
    lines = [
        "| strategy | attack | eps | success | seen | median queries to detection |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "attack" in row:
            low, high = row["interval"]
            to = row["median_to_detection"]
            lines.append(
                f"| {row['strategy']} | {row['attack']} | {row['eps']:g} | {row['success']:.0%} "
                f"({low:.0%}–{high:.0%}) | {row['seen']} of {row['n']} | "
                f"{'–' if to is None else f'{to:g}'} |"
            )
    lines += ["", "| data | stream | flagged | CPU ms | bytes |", "|---|---|---|---|---|"]
    for row in rows:
        if "stream" in row:
            lines.append(
                f"| {row['data']} | {row['stream']} | {row['flagged']} of {row['n']} | "
                f"{row['cpu_ms']:.2f} | {row['bytes']:.0f} |"
            )
    return "\n".join(lines)


def _trained(x: Tensor, y: Tensor) -> nn.Module:
    """Two convolutions: some 96 % right, and hardened against nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(32 * 49, 10)),
        )
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(3):
            for rows in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
    return net.eval()


def _guard(net: nn.Module) -> Guard:
    """Accepts whatever it is asked: what is measured is the defence against streams alone."""
    return Guard(
        spec=InputSpec((1, 28, 28), tuple("0123456789"), levels=256),
        members=(TorchClassifier(net),),
        weights=(1.0,),
        temperatures=(1.0,),
        detectors=(Confidence(),),
        rule=Thresholds((1e9,), 0),
        digest="0" * 64,
    )
