"""Whole suites: ours beside AutoAttack (pyautoattack), and PGD beside published figures."""

import argparse
import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import attack_nets as nets
from benchmarks import attack_peers as peers
from benchmarks.attack_cases import Json, MissingError, attack_of_ours, cached, source_hash
from benchmarks.attack_peers import Setting
from benchmarks.attack_timing import clock, in_batches, judge
from benchmarks.results_file import Bar
from buckler import draws
from buckler.models import tuned
from buckler.protocols import Attack
from buckler.stats import wilson
from buckler.threats import LpBall

SECTIONS = ("standard", "strong", "oracle")
_PEER_BATCH = 250  # AutoAttack's own default
_L2 = 0.5  # radius of the nets that are judged under L2 too


def run(asked: argparse.Namespace, sections: Sequence[str]) -> list[Json]:
    """One row a net, norm and attacker: robust accuracy over all rows drawn, seconds, verdicts."""
    rows: list[Json] = []
    if "standard" in sections or "strong" in sections:
        wanted = [name for name in ("standard", "strong") if name in sections]
        for recipe, norm, eps in matches(asked):
            try:
                rows += _match(recipe, norm, eps, wanted, asked)
            except MissingError as missing:
                print(f"  {recipe.name} {norm}: skipped, {missing}", flush=True)
    if "oracle" in sections and asked.data_dir:
        for recipe in nets.PUBLISHED:
            if not asked.net or any(part in recipe.name for part in asked.net):
                rows += _oracle(recipe, asked)
    return rows


def matches(asked: argparse.Namespace) -> list[tuple[nets.Recipe, str, float]]:
    """(net, norm, eps): published nets at their published radii, ours where they were trained."""
    if not asked.data_dir:
        found = [(nets.DIGITS[1], "linf", nets.DIGITS[1].eps)]
    else:
        found = [(recipe, "linf", recipe.known[0][0]) for recipe in nets.PUBLISHED]
        found += [(recipe, "linf", recipe.eps) for recipe in nets.TRAINED if recipe.eps]
        found += [(recipe, "l2", _L2) for recipe in nets.TRAINED if recipe.eps]
    return [f for f in found if not asked.net or any(part in f[0].name for part in asked.net)]


def _match(
    recipe: nets.Recipe, norm: str, eps: float, suites: Sequence[str], asked: argparse.Namespace
) -> list[Json]:
    data = nets.load_data(recipe.data, asked.data_dir)
    net = nets.load_net(recipe, data, asked.data_dir)
    order = draws.permutation(7, 0, len(data.x_test))[: min(asked.rows, asked.suite_rows)]
    x, y = data.x_test[order], data.y_test[order]
    facts = {"net": recipe.name, "norm": norm, "eps": eps, "n": len(x)}
    key = {**facts, "key": recipe.key, "threads": torch.get_num_threads(), "quick": asked.quick}
    peer_key = {**key, "peer": peers.versions()["pyautoattack"], "batch": _PEER_BATCH}
    title = f"{recipe.name}-{norm}"

    def theirs() -> list[Json]:
        return [{**facts, "by": "pyautoattack", **_autoattack(net, x, y, norm, eps, asked.quick)}]

    rows = cached(f"autoattack-{title}", peer_key, asked.mode, theirs)
    for name in suites:
        try:
            suite = suite_of_ours(name, norm, asked.quick)
        except MissingError as missing:
            print(f"  {name}: skipped, {missing}", flush=True)
            continue
        ours_key = {**key, "suite": repr(suite), "source": source_hash(*suite)}

        def ours(name: str = name, suite: tuple[Attack, ...] = suite) -> list[Json]:
            return [{**facts, "by": f"ours, {name}", **run_suite(net, x, y, suite, norm, eps)}]

        try:
            rows = rows + cached(f"{name}-{title}", ours_key, asked.mode, ours)
        except MissingError as missing:
            print(f"  {title}, {name}: skipped, {missing}", flush=True)
    for row in rows:
        print(
            f"  {recipe.name} {norm} {eps:.4g} · {row['by']}: robust {row['robust']:.4f}, "
            f"{row['seconds']:.0f} s",
            flush=True,
        )
    return rows


def suite_of_ours(name: str, norm: str, quick: bool) -> tuple[Attack, ...]:
    """suites.standard(norm) or suites.strong(norm); in a quick run without the long search.

    Raises: MissingError if there is none yet.
    """
    made: Any = getattr(importlib.import_module("buckler.attacks.suites"), name, None)
    if made is None:
        raise MissingError(f"buckler.attacks.suites has no {name} yet")
    suite: tuple[Attack, ...] = tuple(made(norm))
    return tuple(attack for attack in suite if not quick or "Square" not in type(attack).__name__)


def run_suite(
    net: nn.Module, x: Tensor, y: Tensor, suite: Sequence[Attack], norm: str, eps: float
) -> Json:
    """Each attack meets only the rows that all before it failed on, and wrong ones none.

    robust: rows right at first and never won / all rows.
    """
    started = clock()
    with torch.no_grad():
        alive = torch.cat([net(part).argmax(1) for part in x.split(500)]) == y
    left, fast = {"clean": int(alive.sum())}, tuned(net, x, queries=True)
    for attack in suite:
        rows = alive.nonzero()[:, 0]
        if not len(rows):
            break
        threat = LpBall(norm, eps)  # type: ignore[arg-type]
        x_adv = attack(fast, x[rows], y[rows], threat, seed=0, rows=rows)
        alive[rows[judge(net, x[rows], y[rows], x_adv, norm, eps).won]] = False
        left[attack.name] = int(alive.sum())
    return _result(alive, clock() - started, left)


def _autoattack(net: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, quick: bool) -> Json:
    """pyautoattack's standard version, judged by the net as ours is."""
    setting = Setting(norm=norm, eps=eps)
    word = "standard without square" if quick else "standard"
    started = clock()
    x_adv = in_batches(peers.pyautoattack(word, setting), net, x, y, 0, len(x))
    seconds = clock() - started
    with torch.no_grad():
        right = torch.cat([net(part).argmax(1) for part in x.split(500)]) == y
    won = judge(net, x, y, x_adv, norm, eps).won
    return _result(right & ~won, seconds, {"clean": int(right.sum())})


def _result(alive: Tensor, seconds: float, left: dict[str, int]) -> Json:
    return {
        "robust": float(alive.float().mean()),
        "seconds": seconds,
        "left": left,
        "alive": alive.nonzero()[:, 0].tolist(),
    }


def _oracle(recipe: nets.Recipe, asked: argparse.Namespace) -> list[Json]:
    """PGD-40 on a published net, on the rows its figure was published for where we have them.

    It climbs the margin, as the attack behind the published CIFAR figures does. Those are of all
    10,000 test images; the subset here holds other rows, whence the interval beside them.
    """
    data = nets.load_data(recipe.data, asked.data_dir)
    net = nets.load_net(recipe, data, asked.data_dir)
    attack = attack_of_ours("PGD", {"steps": 40, "step_size": 0.1, "loss": "margin"})
    rows = []
    for eps, known, first in recipe.known:
        x, y = (part[: first or None] for part in (data.x_test, data.y_test))
        facts: Json = {"net": recipe.name, "norm": "linf", "eps": eps, "n": len(x), "known": known}
        key = {**facts, "key": recipe.key, "attack": repr(attack), "source": source_hash(attack)}

        def work(x: Tensor = x, y: Tensor = y, eps: float = eps, facts: Json = facts) -> list[Json]:
            found = run_suite(net, x, y, (attack,), "linf", eps)
            return [{**facts, "by": "ours, PGD-40", **found}]

        rows += cached(f"oracle-{recipe.name}-{eps:.4g}", key, asked.mode, work)
        print(f"  {recipe.name} {eps:.4g}: robust {rows[-1]['robust']:.4f}, known {known}")
    return rows


def grouped(rows: Sequence[Json]) -> list[list[Json]]:
    groups: dict[tuple[str, str, float], list[Json]] = {}
    for row in rows:
        if "known" not in row:
            groups.setdefault((row["net"], row["norm"], row["eps"]), []).append(row)
    return list(groups.values())


def agreement(one: Json, other: Json) -> float:
    """Share of rows with the same verdict, held or not."""
    return 1.0 - len(set(one["alive"]) ^ set(other["alive"])) / int(one["n"])


def bars(rows: Sequence[Json]) -> list[Bar]:
    found, under = [], []
    for group in grouped(rows):
        peer, n = group[0], group[0]["n"]
        title = f"{peer['net']} {peer['norm']} {peer['eps']:.3g}"
        for ours in group[1:]:
            more = round(100 * (ours["robust"] - peer["robust"]), 3)
            times = peer["seconds"] / ours["seconds"]
            name = f"{title} · {ours['by']}"
            if ours["by"] == "ours, standard":
                same = agreement(ours, peer)
                found.append(
                    Bar(f"{name}: points from AutoAttack's", abs(more), n, None, "<=", 0.2)
                )
                found.append(Bar(f"{name}: rows with its verdict", same, n, None, ">=", 0.995))
                found.append(Bar(f"{name}: times faster", times, n, None, ">=", 2.0))
            else:
                under.append(more <= 0)
                found.append(Bar(f"{name}: points over AutoAttack's", more, n, None, "<=", 0.1))
                found.append(Bar(f"{name}: times faster", times, n, None, ">=", 10.0))
    if under:
        share = sum(under) / len(under)
        name = "strong: share of nets at or under AutoAttack's"
        found.append(Bar(name, share, len(under), None, ">=", 0.5))
    for row in rows:
        if "known" in row:
            rate = wilson(round(row["robust"] * row["n"]), row["n"])
            over = 100 * (row["robust"] - row["known"])
            low, high = (100 * (end - row["known"]) for end in (rate.low, rate.high))
            name = f"{row['net']} {row['eps']:.3g}: PGD-40, points over the known figure"
            found.append(Bar(name, over, row["n"], (low, high), "<=", 0.3))
    return found


def table(rows: Sequence[Json]) -> str:
    """One line a net and attacker."""
    if not rows:
        return ""
    heads = ["net", "threat", "by", "n", "robust accuracy (all rows)", "rows left after each"]
    heads += ["same verdict", "seconds", "times faster"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    firsts = {id(row): group[0] for group in grouped(rows) for row in group}
    for row in rows:
        peer = firsts.get(id(row), row)
        rate = wilson(round(row["robust"] * row["n"]), row["n"])
        known = f"; known {100 * row['known']:.2f} %" if "known" in row else ""
        alone = peer is row
        cells = [
            row["net"],
            f"{row['norm']} {row['eps']:.4g}",
            row["by"],
            str(row["n"]),
            f"{100 * row['robust']:.2f} % ({100 * rate.low:.1f}–{100 * rate.high:.1f}){known}",
            ", ".join(f"{name} {left}" for name, left in row["left"].items()),
            "" if alone else f"{100 * agreement(row, peer):.2f} %",
            f"{row['seconds']:.1f}",
            "" if alone else f"{peer['seconds'] / row['seconds']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
