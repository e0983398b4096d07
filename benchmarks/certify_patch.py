"""Masks against one square of 2 % of the image: certified and clean accuracy on MNIST.

Several sets of masks, each with a net trained for it; the one that counts is chosen on the select
split. Finished columns are kept under out/certify/patch.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.certify_nets import MASKS, PATCH, Masks, occluded, plain, trained
from benchmarks.headline_data import load
from benchmarks.results_file import Bar
from buckler import files
from buckler.attacks import PatchAttack
from buckler.certify import ABSTAINED, Masked
from buckler.stats import wilson

OUT = Path("out/certify/patch")
_PART = 25  # rows a checkpoint
_SELECT = 75  # rows on which the masks are chosen


def rows(folder: Path, count: int, attacked: int) -> list[dict[str, Any]]:
    """The masked nets beside the plain one of the same architecture, on the same rows; and the
    patch attack against the chosen one and the plain one, on the first of them."""
    data = load("mnist", folder)
    x, y, _ = data["test"].sample(count, 0)
    plain_net, _ = trained(plain(), data)
    with torch.inference_mode():
        bare = plain_net(x).argmax(1)
    found = [_row("plain", "clean", bare == y)]
    systems, scores = [], []
    for masks in MASKS:
        net, _ = trained(occluded(masks), data)
        systems.append(Masked(net, PATCH, masks.per_side, masks.fill))
        few, truth, _ = data["select"].sample(_SELECT, 0)
        answers = _answers(systems[-1], masks, few, "select")
        scores.append(float((answers["certified"] == truth).double().mean()))
        print(f"  {masks.name}: {scores[-1]:.3f} certified on the select split", flush=True)
    chosen = scores.index(max(scores))
    for masks, masked, score in zip(MASKS, systems, scores, strict=True):
        answers = _answers(masked, masks, x, "test")
        facts = {
            "clean": answers["served"] == y,
            "certified": answers["certified"] == y,
            "abstaining: answered and right": answers["accepted"] == y,
            "abstaining: answered and wrong": (answers["accepted"] != y)
            & (answers["accepted"] != ABSTAINED),
        }
        if masks is MASKS[chosen]:
            net, _ = trained(occluded(masks), data)
            few, truth, held = x[:attacked], y[:attacked], answers["certified"][:attacked]
            facts |= _under_attack(plain_net, net, masked, held, few, truth)
        for what, hit in facts.items():
            found.append({**_row(masks.name, what, hit), "select split": score})
            print(f"  {found[-1]}", flush=True)
    for row in found:
        row["chosen"] = row["system"] == MASKS[chosen].name
    return found


def _row(system: str, what: str, hit: Tensor) -> dict[str, Any]:
    rate = wilson(int(hit.sum()), len(hit))
    row = {"part": "patch", "system": system, "what": what, "value": rate.value, "n": rate.n}
    return {**row, "interval": [rate.low, rate.high], "select split": None}


def _answers(masked: Masked, masks: Masks, x: Tensor, split: str) -> dict[str, Tensor]:
    """The three answers of each row, kept every few rows."""
    path = OUT / f"{split}-{masks.per_side}-{masks.fill:g}-{masks.epochs}.json"
    kept: Any = files.read_json(path) if path.exists() else {}
    ask = {"served": masked.answers, "accepted": masked.accepted, "certified": masked.certified}
    found: dict[str, list[int]] = {name: kept.get(name, []) for name in ask}
    while len(found["certified"]) < len(x):
        at = len(found["certified"])
        for name, answer in ask.items():
            found[name] = found[name][:at] + answer(x[at : at + _PART]).tolist()
        files.write_json(path, found)
    return {name: torch.tensor(labels[: len(x)]) for name, labels in found.items()}


def _under_attack(
    plain_net: nn.Module, net: nn.Module, masked: Masked, certified: Tensor, x: Tensor, y: Tensor
) -> dict[str, Tensor]:
    """Right after the patch attack, which knows the net; each point is answered anew."""
    attack = PatchAttack(steps=50, restarts=2)
    after = masked.answers(attack(net, x, y, PATCH))
    bare = plain_net(attack(plain_net, x, y, PATCH)).argmax(1)
    return {
        "the plain net, right under the patch attack": bare == y,
        "right under the patch attack": after == y,
        "certified and broken": (certified == y) & (after != y),
    }


def bars(found: list[dict[str, Any]]) -> list[Bar]:
    by = {row["what"]: row for row in found if row["chosen"]}
    certified, n = by["certified"], by["certified"]["n"]
    lost = 100 * (found[0]["value"] - by["clean"]["value"])
    low, high = certified["interval"]
    broken = by["certified and broken"]
    return [
        Bar("one square of 2 %: certified", certified["value"], n, (low, high), ">=", 0.6),
        Bar("one square of 2 %: points of clean accuracy lost", lost, n, None, "<=", 2),
        Bar(
            "certified rows broken by the patch attack", broken["value"], broken["n"], None, "<=", 0
        ),
    ]
