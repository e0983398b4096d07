"""Our attacks beside other libraries': python -m benchmarks.attacks [--quick] [--data-dir DIR].

One process, the same threads, net, rows, batches, eps and steps for everyone, runs interleaved.
Sections (--only): gradient, minimal, score, decision, transfer; standard and strong (against
AutoAttack), oracle (published nets). A long run may be stopped and started again: what was
measured is kept in out/attacks-bench until its settings, our attacks' code or a peer's version
change; --mode kept writes the tables of what there is.
`pip install --no-deps -r benchmarks/requirements-peers.txt` first.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import attack_nets as nets
from benchmarks import attack_suites as suites
from benchmarks.attack_cases import Json, MissingError, Scene, cached, measure, raced
from benchmarks.attack_list import FAMILIES, cases, choose_eps
from benchmarks.attack_peers import versions
from benchmarks.results_file import Bar, write_results

FASTER = {  # (on an ordinary net, on an adversarially trained one)
    "gradient": (3.0, 1.3),
    "minimal": (1.1, 1.1),
    "score": (2.0, 2.0),
    "decision": (3.0, 3.0),
    "transfer": (1.0, 1.0),
}
_LARGE = 1000  # input values, from which a net runs the chief races alone
SECTIONS = (*FAMILIES, *suites.SECTIONS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="digits, few rows and steps, one seed")
    parser.add_argument("--data-dir", type=Path, help="folder of fashion-mnist, mnist, cifar10-20k")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this section alone")
    parser.add_argument("--net", action="append", help="nets whose name contains this alone")
    parser.add_argument("--rows", type=int, default=1000, help="test rows, at most")
    parser.add_argument("--suite-rows", type=int, default=500, help="of standard and strong")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=250, help="rows a call, for everyone")
    parser.add_argument(
        "--mode",
        choices=("missing", "fresh", "kept"),
        default="missing",
        help="measure what is missing, all again, or nothing: write what was kept",
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.filterwarnings("ignore")  # the peers' own, hundreds a run
    if asked.quick:
        asked.rows, asked.seeds, asked.data_dir = min(asked.rows, 64), 1, None
    sections = asked.only or SECTIONS
    facts = [
        row
        for scene in scenes(asked)
        for family in FAMILIES
        if family in sections and not (asked.quick and scene.hardened and family != "gradient")
        for row in race(scene, family, asked)
    ]
    verdicts = suites.run(asked, [name for name in suites.SECTIONS if name in sections])
    bars = [*speed_bars(facts), *suites.bars(verdicts)]
    text = "\n\n".join(part for part in (race_table(facts), suites.table(verdicts)) if part)
    rows = [{k: v for k, v in row.items() if k != "alive"} for row in (*facts, *verdicts)]
    path = write_results("attacks", command(asked), rows, bars, text, asked.quick)
    print(f"wrote {path}")


def command(asked: argparse.Namespace) -> str:
    words = ["python -m benchmarks.attacks"]
    words += ["--quick"] if asked.quick else [f"--rows {asked.rows} --seeds {asked.seeds}"]
    words += [f"--suite-rows {asked.suite_rows}"] if asked.suite_rows != 500 else []
    words += [f"--threads {asked.threads}"] if asked.threads != 1 else []
    words += [f"--batch {asked.batch}"] if asked.batch != 250 else []
    words += [f"--data-dir {asked.data_dir}"] if asked.data_dir else []
    words += [f"--only {name}" for name in asked.only or ()]
    words += [f"--net {name!r}" for name in asked.net or ()]
    return " ".join(words)


def scenes(asked: argparse.Namespace) -> list[Scene]:
    """The nets we train, each with its rows for every seed and the radii it is attacked at."""
    made = []
    recipes = nets.TRAINED if asked.data_dir else nets.DIGITS
    for recipe in recipes:
        if asked.net and not any(part in recipe.name for part in asked.net):
            continue
        if not any(family in (asked.only or FAMILIES) for family in FAMILIES):
            continue
        data = nets.load_data(recipe.data, asked.data_dir)
        net = nets.load_net(recipe, data, asked.data_dir)
        rows = tuple(nets.right_rows(net, data, asked.rows, seed) for seed in range(asked.seeds))
        chosen = cached(
            f"eps-{recipe.name}",
            {"recipe": recipe.key},
            "fresh" if asked.mode == "fresh" else "missing",
            lambda net=net, data=data, recipe=recipe: [choose_eps(net, data, recipe)],  # type: ignore[misc]
        )
        eps = chosen[0]
        print(f"{recipe.name}: {len(rows[0][0])} rows, eps {eps}", flush=True)
        made.append(Scene(recipe.name, net, recipe.eps > 0, rows, eps, recipe.key, asked.batch))
    return made


def race(scene: Scene, family: str, asked: argparse.Namespace) -> list[Json]:
    """Every case of a family on one net; one that ours has not is skipped with a line."""
    facts: list[Json] = []
    large = scene.rows[0][0][0].numel() > _LARGE
    for case in cases(asked.quick, large):
        if case.family != family or (case.colour and scene.rows[0][0].shape[1] != 3):
            continue
        try:
            found = measure(case, scene, asked.mode)
        except MissingError as missing:
            print(f"  {case.name}: skipped, {missing}", flush=True)
            continue
        facts += found
        good = raced(found)
        against = f"{min(p['ratio'] for p in good):.2f}x the fastest peer" if good else "no peer"
        ours = found[0]
        print(
            f"  {scene.name} · {case.name}: success {ours['success']:.3f}, "
            f"{ours['seconds']:.2f} s, {against}",
            flush=True,
        )
    return facts


def grouped(facts: Sequence[Json]) -> list[list[Json]]:
    """The rows of one case on one net, ours first."""
    groups: dict[tuple[str, str], list[Json]] = {}
    for row in facts:
        groups.setdefault((row["net"], row["attack"]), []).append(row)
    return list(groups.values())


def speed_bars(facts: Sequence[Json]) -> list[Bar]:
    """Per case and net: how much faster than the fastest peer, and never weaker than the best."""
    bars = []
    for group in grouped(facts):
        ours, good = group[0], raced(group)
        name, n = f"{ours['net']} · {ours['attack']}", ours["n"] * ours["seeds"]
        if good:
            fastest = min(good, key=lambda peer: peer["ratio"])
            asked = FASTER[ours["family"]][ours["hardened"]]
            low, high = fastest["ratio_range"]
            title = f"{name}: times faster than {fastest['by']}"
            bars.append(Bar(title, fastest["ratio"], n, (low, high), ">=", asked))
        if len(group) > 1:
            gap = 100 * (max(peer["success"] for peer in group[1:]) - ours["success"])
            bars.append(
                Bar(f"{name}: success under the best peer, points", gap, n, None, "<=", 0.5)
            )
        medians = [peer["median"] for peer in group[1:] if peer["median"]]
        if ours["kind"] == "minimal" and ours["median"] and medians:
            over = ours["median"] / min(medians)
            title = f"{name}: median distance over the best peer's"
            bars.append(Bar(title, over, n, None, "<=", 1.02))
        if "over_floor" in ours:
            title = f"{name}: seconds over the bare passes'"
            bars.append(Bar(title, ours["over_floor"], n, None, "<=", 1.1))
    return bars


def race_table(facts: Sequence[Json]) -> str:
    """One line an attacker."""
    if not facts:
        return ""
    heads = ["net", "attack", "by", "n × seeds", "eps", "success", "median distance"]
    heads += ["forwards a row", "backwards a row", "seconds", "times ours"]
    listed = ", ".join(f"{name} {number}" for name, number in versions().items())
    lines = [
        "Rows right at first, drawn at random; success = rows won inside the threat / rows, judged "
        "by the net alone; seconds: processor time, median over the seeds; times ours: the median "
        f"of paired runs (least–most). Peers: {listed}.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    lines += [f"| {' | '.join(_cells(row))} |" for row in facts]
    return "\n".join(lines)


def _cells(row: Json) -> list[str]:
    low, high = row["ratio_range"]
    spread = f" ({low:.2f}–{high:.2f})" if row["seeds"] > 1 else ""
    outside = f" ({row['outside']} outside)" if row["outside"] else ""
    median: Any = row["median"]
    return [
        row["net"],
        row["attack"],
        f"**{row['by']}**" if row["by"] == "ours" else row["by"],
        f"{row['n']} × {row['seeds']}",
        f"{row['eps']:.4g}" if row["eps"] else "",
        f"{100 * row['success']:.1f} %{outside}",
        ("none" if median is None else f"{median:.4g}") if row["kind"] == "minimal" else "",
        f"{row['forwards']:.1f}",
        f"{row['backwards']:.1f}",
        f"{row['seconds']:.2f}",
        "" if row["by"] == "ours" else f"{row['ratio']:.2f}{spread}",
    ]


if __name__ == "__main__":
    main()
