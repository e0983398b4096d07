"""A rollout on a store whose gateway is made up: what it reports grows with each look.

python -m tests.store.rolled URL BLOBS steps once, over and over, and says each state it finds kept,
until it is killed or the rollout ends.
"""

import sys
from pathlib import Path

from buckler.ops.evidence import Arm, Observations, Policy, Report
from buckler.ops.pairs import Pairs
from buckler.store import rollouts
from buckler.store.engine import Store, open_store
from buckler.store.live import tell_live

STABLE, CANDIDATE = "a" * 64, "b" * 64
STATES = ["VALIDATING", "SHADOW", "STEP_10", "STEP_50", "STEP_100", "COMPLETED"]
_SAME = Pairs(5, 5, 2000)


def begun(store: Store, policy: Policy | None = None) -> str:
    """A rollout from one bundle that is live to another; its id."""
    tell_live(store, STABLE, "/bundles/a", 0.0)
    kept = rollouts.start(store, CANDIDATE, Path("/bundles/b"), policy or Policy(), 0.0, "ann")
    return kept.id


def seen(requests: int, **more: object) -> Report:
    given = {
        "loaded": True,
        "stable": Arm(requests),
        "candidate": Arm(requests),
        "pairs": _SAME,
        "paired_clients": 50,
        "clean": _SAME,
        "missed": _SAME,
        "wrong": _SAME,
        "probes": requests,
        **more,
    }
    return Report(**given)  # type: ignore[arg-type]


def look(store: Store, name: str, **more: object) -> rollouts.Kept:
    """One look of the loop, a minute after the last one by the rollout's own clock."""
    kept = rollouts.find(store, name)
    at = (kept.rollout.clock or 0.0) + 60
    rollouts.report(store, name, "gateway", int(at), seen(100 * int(at), **more))
    return rollouts.step(store, name, rollouts.observe_all, at)


def nothing(reported: object) -> Observations:
    return Observations()


def main(url: str, blobs: str) -> None:
    store = open_store(url, blobs)
    kept = rollouts.running(store)
    while kept is not None and not kept.rollout.ended:
        kept = look(store, kept.id)
        sys.stdout.write(f"{kept.rollout.state}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
