"""Rollouts by simulation, through the code that serves: tally → report → rules.

A stream of client requests and golden probes goes through `Tally` as a gateway would count it, and
`advance` looks at the report every 200 requests. Fixed seeds; no net, no clock.

python -m benchmarks.operate_rollout [--quick]
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from buckler.ops.evidence import Policy, merge
from buckler.ops.rollout import Rollout, advance
from buckler.serve.tally import Said, Tally
from buckler.stats import wilson

REQUESTS = 10_000
LOOK = 200
RIGHT, FLAGGED, MISSED = Said(False, "right"), Said(True, "right"), Said(False, "wrong")


@dataclass(frozen=True)
class World:
    """What comes in, and how two bundles differ on it.

    clients, zipf: how many there are, and how heavy their tail: 400 at 1.6 give the busiest 44 %.
    differ: share of inputs that exactly one of two equal bundles calls SUSPICIOUS; each client has
        a share of its own (a beta distribution about this mean).
    lean: each client's own preference between the two, drawn from ± lean: 1 lets a client's
        differences all go one way.
    golden_differ: share of golden rows on which exactly one of two equal bundles errs.
    attacks, clean: golden rows of either kind; the rest of the 10,000 requests are clients'.
    more: further share of inputs, of clients and golden clean ones, that only the candidate calls
        SUSPICIOUS (negative: only the stable one).
    on_golden: whether golden clean rows show that, too.
    drop: further share of golden adversarial rows that only the candidate accepts, wrong.
    """

    clients: int = 400
    zipf: float = 1.6
    differ: float = 0.03
    lean: float = 1.0
    golden_differ: float = 0.02
    attacks: int = 3000
    clean: int = 1500
    more: float = 0.0
    on_golden: bool = True
    drop: float = 0.0


def simulate(world: World, seed: int, policy: Policy) -> tuple[str, int]:
    """Why the candidate was rolled back ("" if it was not), and after how many requests."""
    draws = np.random.default_rng(seed)
    kinds = np.zeros(REQUESTS, np.int64)
    kinds[: world.attacks], kinds[world.attacks : world.attacks + world.clean] = 1, 2
    draws.shuffle(kinds)
    weights = np.arange(1, world.clients + 1) ** -world.zipf
    who = draws.choice(world.clients, REQUESTS, p=weights / weights.sum())
    share = draws.beta(1, 1 / world.differ - 1, world.clients)
    lean = draws.uniform(-world.lean, world.lean, world.clients)
    up, down = max(world.more, 0.0), max(-world.more, 0.0)
    half, shown = world.golden_differ / 2, float(world.on_golden)
    plus = np.choose(
        kinds, [share[who] * (1 + lean[who]) / 2 + up, half + world.drop, half + shown * up]
    )
    minus = np.choose(kinds, [share[who] * (1 - lean[who]) / 2 + down, half, half + shown * down])
    luck = draws.random(REQUESTS)
    signs = np.where(luck < plus, 1, np.where(luck < plus + minus, -1, 0))
    tally, rollout = Tally(policy), Rollout(state="SHADOW", clock=0.0)
    for n, (kind, sign) in enumerate(zip(kinds.tolist(), signs.tolist(), strict=True)):
        if kind == 0:
            tally.paired(f"client {who[n]}", *_flags(sign))
        else:
            both = _flags(sign) if kind == 2 else _misses(sign)
            tally.probed(n, "right", kind == 1, *both)
        if (n + 1) % LOOK == 0:
            seen = merge([tally.report(loaded=True)])
            rollout, _ = advance(rollout, seen, float(n), policy)
            if rollout.state == "ROLLED_BACK":
                return rollout.reason, n + 1
    return "", REQUESTS


def _flags(sign: int) -> tuple[Said, Said]:
    return (FLAGGED if sign < 0 else RIGHT), (FLAGGED if sign > 0 else RIGHT)


def _misses(sign: int) -> tuple[Said, Said]:
    """Of an attack: accepted wrong by one of them, or SUSPICIOUS to both."""
    return (MISSED if sign < 0 else FLAGGED), (MISSED if sign > 0 else FLAGGED)


CASES: dict[str, World] = {
    "equal, heavy-tailed clients": World(),
    "equal, 2,000 clients": World(clients=2000, zipf=1.2),
    "+3 points SUSPICIOUS": World(more=0.03),
    "-3 points SUSPICIOUS": World(more=-0.03),
    "-3 points SUSPICIOUS, on clients' inputs alone": World(more=-0.03, on_golden=False),
    "-3 points SUSPICIOUS, 2,000 clients": World(more=-0.03, clients=2000, zipf=1.2),
    "-3 points detection": World(drop=0.03),
    "-3 points detection, 2,000 golden rows": World(drop=0.03, attacks=2000, clean=1000),
    "-3 points detection, bundles differ on 6 %": World(drop=0.03, golden_differ=0.06),
    "-5 points detection, bundles differ on 6 %": World(drop=0.05, golden_differ=0.06),
}

WANTED: dict[str, tuple[str, float]] = {
    "equal, heavy-tailed clients": ("<=", 0.02),
    "+3 points SUSPICIOUS": (">=", 0.95),
    "-3 points SUSPICIOUS": (">=", 0.95),
    "-3 points detection": (">=", 0.95),
}


def figures(
    names: Sequence[str] = tuple(CASES), runs: int = 400, policy: Policy | None = None
) -> list[dict[str, Any]]:
    """One row a case: of so many runs, how many ended in a rollback within 10,000 requests.

    rate with Wilson's 95 % interval; requests: median of those that were caught.
    """
    rules = replace(policy or Policy(), min_s=(1e9,) * 4, max_s=1e9)
    rows = []
    for name in names:
        began = time.perf_counter()
        found = [simulate(CASES[name], seed, rules) for seed in range(runs)]
        caught = [requests for why, requests in found if why]
        rate = wilson(len(caught), runs)
        rows.append(
            {
                "case": name,
                "runs": runs,
                "rolled_back": rate.k,
                "rate": rate.value,
                "interval": [round(rate.low, 4), round(rate.high, 4)],
                "requests": float(np.median(caught)) if caught else None,
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
    return rows


def bars(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The bars of a rollout, from `figures`."""
    found = []
    for row in rows:
        if row["case"] in WANTED:
            op, bar = WANTED[row["case"]]
            met = row["rate"] <= bar if op == "<=" else row["rate"] >= bar
            same = {"n": row["runs"], "interval": row["interval"], "op": op, "bar": bar}
            found.append({"name": row["case"], "value": row["rate"], **same, "met": met})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 runs a case")
    rows = figures(runs=20 if parser.parse_args().quick else 400)
    for row in rows:
        print(json.dumps(row), flush=True)
    for bar in bars(rows):
        print(json.dumps(bar), flush=True)


if __name__ == "__main__":
    main()
