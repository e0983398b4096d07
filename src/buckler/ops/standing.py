"""How a rollout stands, in numbers: for people, and for programs that ask whether to go on."""

from math import log
from typing import Any

from buckler.ops.evidence import Arm, Observations, Policy, as_good, worse
from buckler.ops.pairs import Pairs
from buckler.ops.rollout import Rollout, guilty, missing


def standing(rollout: Rollout, seen: Observations, policy: Policy) -> dict[str, Any]:
    """Evidence and what is still lacking.

    worse: share of what it takes to roll back, as logs of e-values, 1 is enough; as_good: the same
    for going on. pairs: what the differences are made of; mean is candidate − stable.
    """
    one = seen.report
    bad, good = worse(one, policy), as_good(one, policy)
    return {
        "gateways": seen.gateways,
        "loaded": seen.loaded,
        "crashed": seen.crashed,
        "refused": one.refused,
        "guilty": "" if rollout.ended else guilty(rollout, seen, policy),
        "lacks": [] if rollout.ended else missing(rollout, seen, policy),
        "worse": {name: round(each / log(1 / policy.alpha), 4) for name, each in bad.items()},
        "as_good": {name: round(each / log(1 / policy.beta), 4) for name, each in good.items()},
        "pairs": {
            "clients": _pairs(one.pairs),
            "golden_clean": _pairs(one.clean),
            "golden_missed": _pairs(one.missed),
            "golden_wrong": _pairs(one.wrong),
        },
        "paired_clients": one.paired_clients,
        "dropped": one.dropped,
        "probes": one.probes,
        "stable": _arm(one.stable),
        "candidate": _arm(one.candidate),
    }


def _pairs(pairs: Pairs) -> dict[str, Any]:
    parts = {"n": pairs.n, "plus": pairs.plus, "minus": pairs.minus}
    return parts if pairs.mean is None else {**parts, "mean": round(pairs.mean, 6)}


def _arm(arm: Arm) -> dict[str, int]:
    return {"requests": arm.requests, "errors": arm.errors, "slow": arm.slow}
