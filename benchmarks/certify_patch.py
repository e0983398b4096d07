"""Masks against one square of 2 % of the image: certified and clean accuracy on MNIST."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.certify_nets import PATCH, PER_SIDE, occluded, plain, trained
from benchmarks.headline_data import load
from benchmarks.results_file import Bar
from buckler.attacks import PatchAttack
from buckler.certify import ABSTAINED, Masked
from buckler.stats import wilson


def rows(folder: Path, count: int, attacked: int) -> list[dict[str, Any]]:
    """The masked net beside the plain one of the same architecture, on the same rows; and the
    patch attack against both, on the first of them."""
    data = load("mnist", folder)
    masked_net, seconds = trained(occluded(), data)
    plain_net, _ = trained(plain(), data)
    x, y, _ = data["test"].sample(count, 0)
    masked = Masked(masked_net, PATCH, PER_SIDE)
    served, accepted, certified = masked.answers(x), masked.accepted(x), masked.certified(x)
    with torch.inference_mode():
        bare = plain_net(x).argmax(1)
    attack = PatchAttack(steps=50, restarts=2)
    few, truth = x[:attacked], y[:attacked]
    fooled = plain_net(attack(plain_net, few, truth, PATCH)).argmax(1) != truth
    after = masked.answers(attack(masked_net, few, truth, PATCH))
    broken = (certified[:attacked] == truth) & (after != truth)
    facts = {
        "plain, clean": (bare == y),
        "masked, clean": (served == y),
        "certified": (certified == y),
        "abstaining: answered and right": (accepted == y),
        "abstaining: answered and wrong": (accepted != y) & (accepted != ABSTAINED),
        "plain, right under the patch attack": (bare[:attacked] == truth) & ~fooled,
        "masked, right under the patch attack": after == truth,
        "certified and broken": broken,
    }
    found = []
    for name, hit in facts.items():
        rate = wilson(int(hit.sum()), len(hit))
        row = {"part": "patch", "what": name, "value": rate.value, "n": rate.n}
        found.append({**row, "interval": [rate.low, rate.high], "minutes": seconds / 60})
        print(f"  {found[-1]}", flush=True)
    return found


def bars(found: list[dict[str, Any]]) -> list[Bar]:
    by = {row["what"]: row for row in found}
    certified, n = by["certified"], by["certified"]["n"]
    lost = 100 * (by["plain, clean"]["value"] - by["masked, clean"]["value"])
    low, high = certified["interval"]
    broken = by["certified and broken"]
    return [
        Bar("one square of 2 %: certified", certified["value"], n, (low, high), ">=", 0.6),
        Bar("one square of 2 %: points of clean accuracy lost", lost, n, None, "<=", 2),
        Bar(
            "certified rows broken by the patch attack", broken["value"], broken["n"], None, "<=", 0
        ),
    ]
