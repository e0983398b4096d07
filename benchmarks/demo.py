"""The demo's table over several splits, and its bars: python -m benchmarks.demo [--quick]."""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.results_file import Bar, write_results
from buckler import files
from buckler.assess import of_model
from buckler.attacks import OnePixel
from buckler.cli.demo import SEEDS, demo_config, tell
from buckler.cli.project import Project
from buckler.cli.steps_model import seeds_summary
from buckler.stats import wilson
from buckler.threats import PixelBudget

Json = dict[str, Any]
NAMES = {
    "undefended": "undefended",
    "hardened net alone": "hardened net alone",
    "article's guard": "the article's guard",
    "guard": "**our guard**",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one split, few rows, weaker attacks")
    parser.add_argument("--data-dir", help="unused: the digits ship with scikit-learn")
    quick = parser.parse_args().quick
    splits = [measure(seed, quick) for seed in range(1 if quick else 3)]
    rows = [row for split in splits for row in split["systems"]]
    command = "python -m benchmarks.demo" + (" --quick" if quick else "")
    text = f"{table(splits)}\n\n{rulings(splits)}"
    path = write_results("demo", command, rows, bars(splits), text, quick)
    print(f"wrote {path}")


def measure(seed: int, quick: bool) -> Json:
    """The chain on one split of the digits, in a folder of its own."""
    output = Path(f"out/benchmarks/demo-{seed}{'-quick' if quick else ''}").resolve()
    config = demo_config(output)
    config = config.model_copy(update={"data": config.data.model_copy(update={"seed": seed})})
    if quick:
        changes = {"rows": 60, "steps": 20, "restarts": 1, "queries": 100}
        config = config.model_copy(update={"assess": config.assess.model_copy(update=changes)})
    shutil.rmtree(output, ignore_errors=True)  # a step found done would be timed as nothing
    project = Project.of(config, output)
    started = time.perf_counter()
    tell(project)
    seconds = time.perf_counter() - started
    ruling: Any = files.read_json(project.bundle / "evidence" / "ruling.json")
    comparison: Any = files.read_json(project.bundle / "evidence" / "comparison.json")
    systems = [
        {
            "split": seed,
            "system": system["name"],
            "threat": system["adaptive"]["threat"],
            "n": system["adaptive"]["n"],
            "static": system["static"]["rates"]["success"],
            "adaptive": system["adaptive"]["rates"]["success"],
            "unbounded": system["unbounded"],
            "struck": system["struck"],
            **{
                name: system["adaptive"]["rates"][name]
                for name in ("clean_accuracy", "accepted_right", "review_rate", "success_of_all")
            },
        }
        for system in comparison["systems"]
    ]
    return {
        "seconds": seconds,
        "systems": systems,
        "clean": seeds_summary(project, SEEDS),
        "pixel": one_pixel(project),
        "ruling": ruling,
    }


def one_pixel(project: Project) -> tuple[int, int]:
    """(found by the search, found by trying every pixel at 17 levels), of the same rows."""
    model, spec = project.original(), project.data.spec
    x, y, _ = project.data["test"].sample(project.config.assess.rows, 0)
    target = of_model(model, spec, x)
    right = target.answer(x)[0] == y
    x, y = x[right], y[right]
    everything = torch.zeros(len(x), dtype=torch.bool)
    for pixel in range(64):
        tried = x.repeat_interleave(17, 0)
        tried[:, 0, pixel // 8, pixel % 8] = (torch.arange(17) / 16).repeat(len(x))
        wrong = target.answer(tried)[0] != y.repeat_interleave(17)
        everything |= wrong.reshape(-1, 17).any(1)
    found = target.answer(OnePixel()(model, x, y, PixelBudget(1)))[0] != y
    return int((found & everything).sum()), int(everything.sum())


def bars(splits: list[Json]) -> list[Bar]:
    """What was asked of the demo."""
    accuracies = [value for split in splits for value in split["clean"]["accuracies"]]
    n = splits[0]["clean"]["n"]
    found, everything = (sum(split["pixel"][i] for split in splits) for i in (0, 1))
    pixel = wilson(found, everything)
    listed = [
        Bar(
            f"clean accuracy of the ordinary classifier, mean of {len(accuracies)} trainings",
            sum(accuracies) / len(accuracies),
            n * len(accuracies),
            None,
            ">=",
            0.98,
        ),
        Bar(
            "one pixel: found by the search / found by exhaustive search",
            pixel.value,
            pixel.n,
            (pixel.low, pixel.high),
            ">=",
            0.95,
        ),
    ]
    for split, facts in enumerate(splits):
        ours = facts["systems"][-1]["adaptive"]
        listed.append(
            Bar(
                f"our guard, split {split}: adaptive success, upper end",
                ours["high"],
                ours["n"],
                (ours["low"], ours["high"]),
                "<",
                0.15,
            )
        )
        listed.append(
            Bar(f"the whole demo, split {split}: seconds", facts["seconds"], 1, None, "<", 240)
        )
    return listed


def table(splits: list[Json]) -> str:
    """One row a system, split 0; the other splits' adaptive figures beside it."""
    first = splits[0]["systems"]
    eps, n = first[0]["threat"]["eps"], first[0]["n"]
    others = f"adaptive, splits 1–{len(splits) - 1}" if len(splits) > 1 else ""
    heads = ["system", "static", "adaptive", "unbounded", "clean accuracy", "accepted and right"]
    heads += ["review rate", "accepted and wrong / all, adaptive", *([others] if others else [])]
    lines = [
        f"Handwritten digits, L∞ eps {eps:g}, n = {n} test rows, 95 % Wilson intervals.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for index, row in enumerate(first):
        adaptive = percent(row["adaptive"])
        cells = [
            NAMES.get(row["system"], row["system"]),
            percent(row["static"]),
            f"~~{adaptive}~~" if row["struck"] else adaptive,
            f"{row['unbounded']['value']:.0%}",
            *(percent(row[name]) for name in ("clean_accuracy", "accepted_right", "review_rate")),
            percent(row["success_of_all"]),
        ]
        if others:
            more = [split["systems"][index]["adaptive"]["value"] for split in splits[1:]]
            cells.append(", ".join(f"{100 * value:.1f} %" for value in more))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rulings(splits: list[Json]) -> str:
    """What the deployment check says of our guard on each split, and why not where it does not."""
    sentences = []
    for split, facts in enumerate(splits):
        unmet = [item for item in facts["ruling"]["items"] if not item["met"]]
        why = [
            f"{i['name']}: bad end {i['bad_end']:.3f}, asked {i['op']} {i['bar']:g}" for i in unmet
        ]
        why += facts["ruling"]["struck"]
        says = "passed" if facts["ruling"]["passed"] else f"not passed ({'; '.join(why)})"
        sentences.append(f"split {split} {says}")
    return f"Deployment check: {', '.join(sentences)}."


def percent(rate: Json) -> str:
    return f"{100 * rate['value']:.1f} % ({100 * rate['low']:.1f}–{100 * rate['high']:.1f})"


if __name__ == "__main__":
    main()
