"""Is the battery right, both ways? python -m benchmarks.battery [--quick] [--data-dir DIR].

Three parts (--only): fixtures (a zoo whose verdicts are written down; thresholds were fixed on its
half "tuned"), honest (ordinary and hardened nets: seeds × recipes × data), cost (a net for CIFAR's
images, with the default effort). The gradient-norm test and AutoAttack's flags stand beside it on
the same fixtures. What was measured is kept in out/battery-bench, net by net, until its settings
or the battery's code change. `pip install --no-deps -r benchmarks/requirements-peers.txt` first.
"""

import argparse
import ast
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import attack_nets as nets
from benchmarks import battery_flags
from benchmarks.battery_table import bars, table
from benchmarks.results_file import write_results
from buckler import draws, files
from buckler.assess.battery import Battery, Effort, battery
from buckler.assess.battery.scene import climb
from buckler.assess.battery.zoo import Fixture, zoo
from buckler.assess.target import Target
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.threats import Goal, LpBall

Json = dict[str, Any]
CACHE = Path("out/battery-bench")
PARTS = ("fixtures", "honest", "cost")
MEASURED = Effort(
    rows=80, queries=300, noise=1000, noise_rows=40, decision_rows=10, decision_queries=300,
    points=16,
)  # fmt: skip
"""Fewer rows and draws than the default, which the cost is measured with."""
QUICK = Effort(
    rows=60, queries=200, noise=500, noise_rows=20, decision_rows=10, decision_queries=200,
    points=12,
)  # fmt: skip
_EPS = {"digits": 0.1, "fashion-mnist": 0.05, "mnist": 0.1, "cifar10-20k": 4 / 255}
_FLAGGED = 20  # rows that AutoAttack is shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="digits, few rows and draws")
    parser.add_argument("--data-dir", type=Path, help="folder of fashion-mnist, mnist, cifar10-20k")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    parser.add_argument("--half", choices=("tuned", "judged"), help="fixtures of this half alone")
    parser.add_argument("--kept", action="store_true", help="what is kept already, no net more")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    effort, parts = QUICK if asked.quick else MEASURED, asked.only or PARTS
    rows: list[Json] = []
    if "fixtures" in parts:
        rows += fixtures(effort, asked.half, not asked.kept)
    if "honest" in parts:
        rows += honest(effort, asked.data_dir, asked.quick, not asked.kept)
    if "cost" in parts and asked.data_dir:
        rows += cost(asked.data_dir, not asked.kept)
    command = "python -m benchmarks.battery" + (" --quick" if asked.quick else "")
    command += " --data-dir DIR" if asked.data_dir else ""
    command += " --kept" if asked.kept else ""
    command += "".join(f" --only {part}" for part in asked.only or ())
    partial = asked.quick or asked.half or asked.only
    path = write_results("battery", command, rows, bars(rows), table(rows), bool(partial))
    print(f"wrote {path}")


def fixtures(effort: Effort, half: str | None, more: bool) -> list[Json]:
    """The zoo on the digits, around nets that are trained in seconds."""
    data = nets.load_data("digits", None)
    made = [fixture for fixture in on_digits(data) if half in (None, fixture.half)]
    rows = []
    for at, fixture in enumerate(made, 1):
        name, work = fixture.name, partial(_fixture, fixture, data, effort)
        found = kept(f"fixture {name}", repr(effort), work if more else None)
        flagged = partial(_flags, fixture.model, data)
        flags = kept(f"flags {name}", "", flagged if more else None)
        if found is None or flags is None:
            continue
        rows.append({**found, "half": fixture.half, "expected": fixture.expected, **flags})
        say(f"fixture {at} of {len(made)}, {fixture.expected} expected", found)
    return rows


def on_digits(data: nets.Data) -> tuple[Fixture, ...]:
    other = nets.Recipe("digits, other", "digits", "digits", eps=0.1, epochs=20, seed=1)
    return zoo(*(nets.load_net(recipe, data, None) for recipe in (*nets.DIGITS, other)))


def judge(fixture: Fixture, data: nets.Data, effort: Effort) -> Json:
    """What the battery says of it."""
    inner = fixture.undefended
    undefended = None if inner is None else bare(inner, data, "undefended")
    target, threat = bare(fixture.model, data, fixture.name), LpBall("linf", _EPS["digits"])
    x, y = some(data, 2 * effort.rows)
    return told(lambda: battery(target, x, y, threat, effort=effort, undefended=undefended))


def _fixture(fixture: Fixture, data: nets.Data, effort: Effort) -> Json:
    eps, target = _EPS["digits"], bare(fixture.model, data, fixture.name)
    x, y = some(data, 2 * effort.rows)
    found = judge(fixture, data, effort)
    view = target.view if found["naive"] else None
    return {
        "part": "fixture",
        "name": fixture.name,
        **found,
        "white_box": _left(target, view, x, y, eps, effort),
        "informed": _left(target, fixture.informed, x, y, eps, effort),
    }


def _flags(model: nn.Module, data: nets.Data) -> Json:
    x, y = some(data, _FLAGGED)
    return {"flags": battery_flags.flags(model, x, y, _EPS["digits"])}


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


def told(work: Callable[[], Battery]) -> Json:
    """A battery's verdict with torch's generator set, for some of the zoo draw from it.

    cpu_seconds: of the whole process, all threads.
    """
    started = time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = work()
    return {
        "n": found.n,
        "verdict": found.verdict,
        "marked": [
            f"{c.number} {c.name}: {c.evidence}" for c in found.checks if c.mark in ("warn", "fail")
        ],
        "values": {str(c.number): c.value for c in found.checks if c.value is not None},
        "naive": None if found.naive is None else asdict(found.naive),
        "naive_masked": found.naive.masked if found.naive else None,
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def honest(effort: Effort, folder: Path | None, quick: bool, more: bool) -> list[Json]:
    """Nets without a trick: ordinary, adversarially trained, trained by bounds (published)."""
    recipes = [
        nets.Recipe(f"digits, eps {eps:g}, seed {seed}", "digits", "digits", eps, 8, seed, steps=3)
        for seed in (range(10, 12) if quick else range(10, 15))
        for eps in (0.0, 0.1, 0.15)
    ]
    recipes += [*nets.PUBLISHED, *nets.TRAINED] if folder else []
    rows = []
    for at, recipe in enumerate(recipes, 1):
        eps = recipe.known[0][0] if recipe.known else _EPS[recipe.data]
        work = partial(_honest, recipe, folder, eps, effort)
        settings = repr((effort, recipe.key, eps))
        found = kept(f"honest {recipe.name}", settings, work if more else None)
        if found is not None:
            say(f"honest net {at} of {len(recipes)}", found)
            rows.append(found)
    return rows


def _honest(recipe: nets.Recipe, folder: Path | None, eps: float, effort: Effort) -> Json:
    data = nets.load_data(recipe.data, folder)
    target = bare(nets.load_net(recipe, data, folder), data, recipe.name)
    x, y = some(data, 2 * effort.rows)
    found = told(lambda: battery(target, x, y, LpBall("linf", eps), effort=effort))
    return {"part": "honest", "name": recipe.name, "eps": eps, **found}


def cost(folder: Path, more: bool) -> list[Json]:
    """A residual net on 32×32 colour images, hardened: rows stand, so that every check works."""
    recipe, effort = nets.TRAINED[3], Effort()
    work = partial(_honest, recipe, folder, _EPS[recipe.data], effort)
    found = kept("cost", repr(effort), work if more else None)
    if found is None:
        return []
    say("cost", found)
    return [{**found, "part": "cost", "name": f"{recipe.name}, default effort"}]


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


def kept(name: str, settings: str, work: Callable[[], Json] | None) -> Json | None:
    """work(), kept under a name with the hash of its settings and of the battery's code; None if
    it is not there and there is no work either."""
    folder = Path(zoo.__code__.co_filename).parent
    sources = [folder / "zoo.py"] if name.startswith("flags") else sorted(folder.glob("*.py"))
    content = settings + "".join(_code(path) for path in sources)
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    path = CACHE / f"{''.join(c if c.isalnum() else '-' for c in name)}-{key}.json"
    if not path.exists():
        if work is None:
            return None
        files.write_json(path, work())
    row: Json = json.loads(path.read_bytes())
    return row


@cache
def _code(path: Path) -> str:
    """What the file does, whatever its comments and docstrings say."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def say(where: str, row: Json) -> None:
    why = "; ".join(row["marked"])
    print(
        f"{where}: {row['name']}: {row['verdict']} ({row['cpu_seconds']} CPU s) {why}", flush=True
    )


if __name__ == "__main__":
    main()
