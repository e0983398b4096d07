"""The headline: python -m benchmarks.headline --data-dir DIR --dataset mnist [--quick].

Trains the nets (or reads them again, by hash), builds the guard, attacks everything as someone who
knows all of it, and writes results/headline-DATASET.json, .md and .svg. What was measured is kept
in out/headline, group of rows by group: a stopped run goes on.
"""

import argparse
import hashlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import headline_detection as detection
from benchmarks import headline_digits as digits
from benchmarks.headline_attacks import attacked, chunked, drawn, guard_suite, pixels_tried
from benchmarks.headline_data import load
from benchmarks.headline_nets import CACHE, timed
from benchmarks.headline_plan import Plan, plan_of
from benchmarks.headline_scene import WITNESS, Scene, prepared
from benchmarks.headline_table import bars, table
from benchmarks.plot import rate_bars
from benchmarks.results_file import RESULTS, write_results
from buckler import files
from buckler.assess import Ledger
from buckler.assess.latency import latencies
from buckler.assess.target import Target
from buckler.attacks import PGD, Corruptions, OnePixel, PatchAttack, Under, WorstOfK
from buckler.attacks.suites import Suite, strong
from buckler.data import Dataset
from buckler.protocols import Threat
from buckler.stats import wilson
from buckler.threats import Corruption, LpBall, Patch, PixelBudget, Spatial

Json = dict[str, Any]
FEW = ("article's guard", WITNESS)
DATASETS = ("mnist", "fashion", "digits", "cifar10-20k")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=DATASETS, default="digits")
    parser.add_argument("--data-dir", type=Path, help="folder of mnist, fashion-mnist, cifar10-20k")
    parser.add_argument("--quick", action="store_true", help="a tenth of the epochs, few rows")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    name = asked.dataset
    command = f"python -m benchmarks.headline --dataset {name}"
    command += f" --data-dir {asked.data_dir}" if asked.data_dir else ""
    command += " --quick" if asked.quick else ""
    if name == "digits":
        rows, listed, text = digits.measured(asked.quick)
        write_results(f"headline-{name}", command, rows, listed, text, asked.quick)
        plot(name, [(row["system"], row["threat"], row["success"]) for row in rows], asked.quick)
        return
    plan = plan_of(name, asked.quick)
    data = load(name, asked.data_dir, small=asked.quick)
    facts = measured(plan, data, name, asked.quick)
    path = write_results(
        f"headline-{name}", command, facts["rows"], bars(name, facts), table(facts), asked.quick
    )
    plot(name, facts["plot"], asked.quick)
    print(f"wrote {path}")


def plot(name: str, rows: list[tuple[str, str, Json]], quick: bool) -> None:
    folder = CACHE if quick else RESULTS
    files.write_text(folder / f"headline-{name}.svg", rate_bars(rows))


def measured(plan: Plan, data: Dataset, name: str, quick: bool) -> Json:
    scene, built = prepared(plan, data, CACHE / (name + ("-quick" if quick else "")))
    nets, rows = scene.nets, drawn(data["test"], plan.rows, 0)
    every = torch.arange(len(data["test"]))
    systems = []
    for label in scene.targets:
        bare = label not in ("guard", *FEW)
        few = drawn(data["test"], plan.rows // 4, 0) if label in FEW else rows
        for eps in plan.eps:
            threat = LpBall("linf", eps)
            suite = strong() if bare else guard_suite(data["calibrate"].x[:2000], quick)
            chosen = every if bare and not quick else few
            systems.append(_row(scene, label, f"L∞ {eps:g}", threat, suite, chosen, shared=rows))
    systems += _unseen(scene, drawn(data["test"], plan.rows // 4, 0), quick)
    pixel = _pixels(scene, drawn(data["test"], plan.rows // 2, 0))
    delay = latencies(nets["standard"].net, scene.guard, data["test"].x)
    facts: Json = {
        "name": name,
        "built": built,
        "systems": systems,
        "pixels": pixel,
        "clean": _clean(scene),
        "static": _static(scene, rows),
        "detection": detection.measured(
            {"guard": scene.guard, WITNESS: scene.witness},
            data,
            nets["standard"].net,
            nets["noise"].net,
            plan.eps,
        ),
        "latency": {k: asdict(v) for k, v in delay.items()},
        "seconds": timed(plan.members, data),
        "members": [member.name for member in plan.members],
        "eps": list(plan.eps),
    }
    facts["rows"] = [
        *systems,
        *pixel,
        {"facts": {k: facts[k] for k in ("built", "static", "clean")}},
    ]
    facts["rows"] += [{"detection": facts["detection"], "latency": facts["latency"]}]
    facts["plot"] = [
        (row["system"], row["threat"], row["success"]) for row in systems if row["knows"]
    ]
    return facts


def _row(
    scene: Scene,
    label: str,
    threat_name: str,
    threat: Threat,
    suite: Suite,
    rows: Tensor,
    source: Target | None = None,
    shared: Tensor | None = None,
) -> Json:
    """One line of the table: a system under one threat; "shared" is of those of its rows alone."""
    ledger, tally = attacked(
        f"{label} {threat_name}",
        scene.targets[label],
        scene.data["test"],
        rows,
        threat,
        suite,
        scene.place,
        scene.identities[label] + ("" if source is None else scene.identities["standard"]),
        source,
    )
    return {
        "system": label,
        "threat": threat_name,
        "knows": source is None,
        "n": len(rows),
        **{name: asdict(rate) for name, rate in ledger.rates().items()},
        "tally": tally,
        "ledger": _columns(ledger),
        **({} if shared is None else {"shared": asdict(_on(ledger, shared).rates()["success"])}),
    }


def _clean(scene: Scene) -> dict[str, Json]:
    """Of each system, on every test row as it stands: how many are right, how many reviewed."""
    split, found = scene.data["test"], {}
    for label, target in scene.targets.items():
        said = [target.answer(x) for x in split.x.split(500)]
        right = torch.cat([answer for answer, _ in said]) == split.y
        held = ~torch.cat([accepted for _, accepted in said])
        found[label] = {
            "clean_accuracy": asdict(wilson(int(right.sum()), len(split))),
            "review_rate": asdict(wilson(int(held.sum()), len(split))),
        }
    return found


def _on(ledger: Ledger, rows: Tensor) -> Ledger:
    """The ledger's part on these rows: systems are compared on the same ones."""
    kept = np.isin(ledger.row, rows.numpy())
    return Ledger(**{c.name: getattr(ledger, c.name)[kept] for c in fields(Ledger)})


def _columns(ledger: Ledger) -> Json:
    """Row ids of what was broken: two systems on the same rows can be compared in pairs."""
    return {"rows": len(ledger.row), "broken": ledger.row[ledger.broken].tolist()}


def _static(scene: Scene, rows: Tensor) -> list[Json]:
    """Points made for the undefended net, shown to both guards: what most attackers send."""
    threat = LpBall("linf", scene.plan.eps[0])
    suite = (PGD(steps=40, step_size=0.1, loss="margin", stop=False, name="PGD"),)
    return [
        _row(scene, label, "static", threat, suite, rows, scene.targets["standard"])
        | {"reviewed": detection.reviewed(scene.targets[label], scene.targets["standard"],
                                          scene.data["test"], rows, threat, suite[0])}
        for label in ("article's guard", "guard")
    ]  # fmt: skip


def _unseen(scene: Scene, rows: Tensor, quick: bool) -> list[Json]:
    """Threats that nothing was trained or tuned on, adaptively."""
    box = scene.data.spec.box
    patch = Patch(0.05, box=box)
    pool = scene.data["calibrate"].x[:2000]
    l2 = {on: guard_suite(pool, quick, guarded=on) for on in (True, False)}
    threats: list[tuple[str, Threat, Suite | dict[bool, Suite]]] = [
        (f"L2 {scene.plan.l2:g}", LpBall("l2", scene.plan.l2), l2),
        ("patch, 5 % of the image", patch, (Under(PatchAttack(), patch),)),
        ("rotation and shift", Spatial(fill=box[0], box=box), (WorstOfK(),)),
        ("corruptions, severity 3", Corruption(severity=3, box=box), (Corruptions(),)),
        ("5 pixels", PixelBudget(5), (PGD(steps=40, step_size=0.5, loss="selective"), OnePixel())),
    ]
    labels = ("standard", scene.plan.single.name, "guard")
    return [
        _row(
            scene,
            label,
            named,
            threat,
            suite[label == "guard"] if isinstance(suite, dict) else suite,
            rows,
        )
        for named, threat, suite in threats
        for label in labels
    ]


def _pixels(scene: Scene, rows: Tensor) -> list[Json]:
    """One pixel, every place and both ends of the box: nothing that a search could miss."""
    split, found = scene.data["test"], []
    for label in ("standard", scene.plan.single.name, "guard"):
        target = scene.targets[label]
        right = rows[target.answer(split.x[rows])[0] == split.y[rows]]

        def job(cut: slice, target: Target = target, right: Tensor = right) -> Tensor:
            return pixels_tried(
                target, split.x[right[cut]], split.y[right[cut]], scene.data.spec.box
            )

        key = hashlib.sha256((scene.identities[label] + repr(right.tolist())).encode())
        won = chunked(scene.place / "pixels" / key.hexdigest()[:12], len(right), job)
        rate = wilson(int(won.sum()), len(won))
        found.append({"system": label, "threat": "one pixel, every one tried", "n": len(right),
                      "success": asdict(rate)})  # fmt: skip
    return found


if __name__ == "__main__":
    main()
