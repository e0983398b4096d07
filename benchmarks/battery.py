"""Is the battery right, both ways? python -m benchmarks.battery [--quick] [--data-dir DIR].

Three parts (--only): fixtures (a zoo whose verdicts are written down; thresholds were fixed on its
half "tuned"), honest (ordinary and hardened nets: seeds × recipes × data), cost (a net for CIFAR's
images, by the clock). The gradient-norm test and AutoAttack's flags stand beside it on the same
fixtures. What was measured is kept in out/battery-bench until settings or code change.
`pip install --no-deps -r benchmarks/requirements-peers.txt` first.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import attack_nets as nets
from benchmarks.battery_flags import flags
from benchmarks.results_file import Bar, write_results
from buckler import draws, files
from buckler.assess.battery import Battery, Effort, battery
from buckler.assess.battery.scene import climb
from buckler.assess.battery.zoo import Fixture, zoo
from buckler.assess.target import Target
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.stats import wilson
from buckler.threats import Goal, LpBall

Json = dict[str, Any]
CACHE = Path("out/battery-bench")
PARTS = ("fixtures", "honest", "cost")
QUICK = Effort(
    rows=60, queries=200, noise=500, noise_rows=20, decision_rows=10, decision_queries=200,
    points=12,
)  # fmt: skip
_EPS = {"digits": 0.1, "fashion-mnist": 0.05, "mnist": 0.1, "cifar10-20k": 4 / 255}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="digits, few rows and draws")
    parser.add_argument("--data-dir", type=Path, help="folder of fashion-mnist, mnist, cifar10-20k")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    effort, parts = QUICK if asked.quick else Effort(), asked.only or PARTS
    rows: list[Json] = []
    if "fixtures" in parts:
        rows += fixtures(effort)
    if "honest" in parts:
        rows += honest(effort, asked.data_dir, asked.quick)
    if "cost" in parts and asked.data_dir:
        rows += cost(effort, asked.data_dir, asked.threads)
    command = "python -m benchmarks.battery" + (" --quick" if asked.quick else "")
    command += f" --data-dir {asked.data_dir}" if asked.data_dir else ""
    command += "".join(f" --only {part}" for part in asked.only or ())
    path = write_results("battery", command, rows, bars(rows), table(rows), asked.quick)
    print(f"wrote {path}")


def fixtures(effort: Effort) -> list[Json]:
    """The zoo on the digits, around nets that are trained in seconds."""
    data = nets.load_data("digits", None)
    recipes = (
        *nets.DIGITS,
        nets.Recipe("digits, other", "digits", "digits", eps=0.1, epochs=20, seed=1),
    )
    made = zoo(*(nets.load_net(recipe, data, None) for recipe in recipes))
    return [
        kept(f"fixture {fixture.name}", effort, lambda f=fixture: _fixture(f, data, effort))  # type: ignore[misc]
        for fixture in made
    ]


def _fixture(fixture: Fixture, data: nets.Data, effort: Effort) -> Json:
    eps = _EPS["digits"]
    target = bare(fixture.model, data, fixture.name)
    inner = fixture.undefended
    undefended = None if inner is None else bare(inner, data, "undefended")
    x, y = some(data, 2 * effort.rows)
    found = seeded(
        lambda: battery(target, x, y, LpBall("linf", eps), effort=effort, undefended=undefended)
    )
    climbed = (target.view, fixture.informed) if found.naive else (None, fixture.informed)
    return {
        "part": "fixture",
        "name": fixture.name,
        "half": fixture.half,
        "expected": fixture.expected,
        **_told(found),
        "white_box": _left(target, climbed[0], x, y, eps, effort),
        "informed": _left(target, climbed[1], x, y, eps, effort),
        "flags": flags(fixture.model, x[: effort.rows // 2], y[: effort.rows // 2], eps),
    }


def _left(
    target: Target, view: Any, x: Tensor, y: Tensor, eps: float, effort: Effort
) -> float | None:
    """Rows that stay right when one view is climbed and the deployed model is asked / right."""
    if view is None:
        return None
    right = target.answer(x)[0] == y
    x, y = x[right][: effort.rows], y[right][: effort.rows]
    attack = climb(effort.steps)
    x_adv = attack(view, x, y, LpBall("linf", eps))
    return float((target.answer(x_adv)[0] == y).float().mean())


def _told(found: Battery) -> Json:
    return {
        "n": found.n,
        "verdict": found.verdict,
        "marked": [
            f"{c.number} {c.name}: {c.evidence}" for c in found.checks if c.mark in ("warn", "fail")
        ],
        "values": {str(c.number): c.value for c in found.checks if c.value is not None},
        "naive": None if found.naive is None else asdict(found.naive),
        "naive_masked": found.naive.masked if found.naive else None,
        "seconds": round(found.seconds, 1),
    }


def honest(effort: Effort, folder: Path | None, quick: bool) -> list[Json]:
    """Nets without a trick: ordinary, adversarially trained, trained by bounds (published)."""
    seeds = range(10, 12) if quick else range(10, 15)
    recipes = [
        nets.Recipe(
            f"digits, eps {eps:g}, seed {seed}", "digits", "digits", eps=eps, epochs=20, seed=seed
        )
        for seed in seeds
        for eps in (0.0, 0.1, 0.15)
    ]
    recipes += [*nets.TRAINED, *nets.PUBLISHED] if folder else []
    rows = []
    for recipe in recipes:
        data = nets.load_data(recipe.data, folder)
        net = nets.load_net(recipe, data, folder)
        eps = recipe.known[0][0] if recipe.known else _EPS[recipe.data]
        rows.append(
            kept(
                f"honest {recipe.name}",
                effort,
                lambda a=(net, data, recipe.name, eps): _honest(*a, effort),
            )  # type: ignore[misc]
        )
    return rows


def _honest(net: nn.Module, data: nets.Data, name: str, eps: float, effort: Effort) -> Json:
    x, y = some(data, 2 * effort.rows)
    found = seeded(lambda: battery(bare(net, data, name), x, y, LpBall("linf", eps), effort=effort))
    return {"part": "honest", "name": name, "eps": eps, **_told(found)}


def cost(effort: Effort, folder: Path, threads: int) -> list[Json]:
    """A residual net on 32×32 colour images, hardened: rows stand, so that every check works."""
    recipe = nets.TRAINED[3]
    data = nets.load_data(recipe.data, folder)
    net = nets.load_net(recipe, data, folder)

    def timed() -> Json:
        found = _honest(net, data, recipe.name, _EPS[recipe.data], effort)
        return {**found, "part": "cost", "threads": threads}

    return [kept(f"cost {threads}", effort, timed)]


def bare(model: nn.Module, data: nets.Data, name: str) -> Target:
    """A target that is not looked at first: some of the zoo would be refused."""
    net = TorchClassifier(model)
    spec = InputSpec(tuple(data.x_test.shape[1:]), tuple(map(str, range(10))), levels=256)

    def answer(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            predicted = torch.cat([net(part).argmax(1) for part in x.split(500)])
        return predicted, torch.ones_like(predicted, dtype=torch.bool)

    return Target(name, net, Goal(), answer, spec)


def some(data: nets.Data, count: int) -> tuple[Tensor, Tensor]:
    rows = draws.permutation(0, 0, len(data.x_test))[:count]
    return data.x_test[rows], data.y_test[rows]


def seeded(work: Callable[[], Battery]) -> Battery:
    """With torch's generator set: some of the zoo draw from it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return work()


def kept(name: str, effort: Effort, work: Callable[[], Json]) -> Json:
    """work(), kept under a name with the hash of its settings and of the battery's code."""
    code = Path(str(zoo.__code__.co_filename)).parent
    content = b"".join(path.read_bytes() for path in sorted(code.glob("*.py")))
    key = hashlib.sha256(repr(effort).encode() + content).hexdigest()[:12]
    path = CACHE / f"{''.join(c if c.isalnum() else '-' for c in name)}-{key}.json"
    if not path.exists():
        files.write_json(path, work())
    row: Json = json.loads(path.read_bytes())
    print(f"{name}: {row['verdict']} ({row['seconds']} s) {'; '.join(row['marked'])}", flush=True)
    return row


def bars(rows: list[Json]) -> list[Bar]:
    """As listed; a part that was not measured has none."""
    made = []
    for half in ("tuned", "judged"):
        asked = [row for row in rows if row["part"] == "fixture" and row["half"] == half]
        if asked:
            right = sum(row["verdict"] == row["expected"] for row in asked)
            name = f"fixtures judged right, half “{half}”, share"
            made.append(Bar(name, right / len(asked), len(asked), None, ">=", 1.0))
    nets_ = [row for row in rows if row["part"] == "honest"]
    if nets_:
        rate = wilson(sum(row["verdict"] == "FAIL" for row in nets_), len(nets_))
        made.append(
            Bar("honest nets failed, share", rate.value, rate.n, (rate.low, rate.high), "<=", 0.05)
        )
        made.append(Bar("honest nets looked at", len(nets_), len(nets_), None, ">=", 20))
    made += [
        Bar(
            f"seconds on a CIFAR-size net, {row['threads']} threads",
            row["seconds"],
            row["n"],
            None,
            "<=",
            600,
        )
        for row in rows
        if row["part"] == "cost"
    ]
    return made


def table(rows: list[Json]) -> str:
    heads = ["fixture", "half", "expected", "battery", "norm test", "AutoAttack's flags"]
    heads += ["left by the white-box", "left by who knows the trick", "why"]
    lines = ["Left: rows still right / rows right at first, 40 steps of PGD on the margin."]
    lines += ["", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    zoo_ = [row for row in rows if row["part"] == "fixture"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in zoo_]
    if zoo_:
        wrong = [row for row in zoo_ if row["naive_masked"] != (row["expected"] != "PASS")]
        silent = [row for row in zoo_ if bool(row["flags"]) != (row["expected"] != "PASS")]
        lines += [
            "",
            f"The norm test is wrong about {len(wrong)} of {len(zoo_)}, AutoAttack's flags ",
        ]
        lines[-1] += f"about {len(silent)} (a flag where PASS is right, or none where it is not)."
    lines += ["", "| net | n | battery | norm test | seconds | why |", "|---|---|---|---|---|---|"]
    for row in rows:
        if row["part"] != "fixture":
            said = [row["name"], str(row["n"]), row["verdict"], _norm(row), str(row["seconds"])]
            lines.append(f"| {' | '.join([*said, '; '.join(row['marked'])])} |")
    return "\n".join(lines)


def _cells(row: Json) -> list[str]:
    right = row["verdict"] == row["expected"]
    left = [("-" if row[k] is None else f"{row[k]:.0%}") for k in ("white_box", "informed")]
    return [
        row["name"], row["half"], row["expected"],
        row["verdict"] if right else f"**{row['verdict']}**",
        _norm(row), "; ".join(row["flags"]) or "none", *left, "; ".join(row["marked"]),
    ]  # fmt: skip


def _norm(row: Json) -> str:
    if row["naive"] is None:
        return "no gradient"
    return f"{'masked' if row['naive_masked'] else 'not masked'} ({row['naive']['value']:.2g})"


if __name__ == "__main__":
    main()
