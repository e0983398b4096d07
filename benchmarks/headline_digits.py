"""The headline on the digits: five folds, so that each of the 1,797 rows is attacked once."""

import hashlib
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.headline_attacks import attacked, guard_suite, interval, joined, place_of
from benchmarks.headline_data import FOLDS, digits_fold
from benchmarks.headline_nets import Training, make, trained
from benchmarks.results_file import Bar
from buckler.assess import Ledger, Target, of_guard, of_model
from buckler.attacks.suites import Suite, strong
from buckler.guard import calibrate
from buckler.harden import choose_weights
from buckler.threats import LpBall

Json = dict[str, Any]
_EPS = 0.1
_MEMBERS = 4
_RATES = (0.01, 0.02)  # target review rates; the second is a configuration's default


def measured(quick: bool) -> tuple[list[Json], list[Bar], str]:
    """The rows, the bars and the table."""
    folds = [_fold(fold, quick) for fold in range(1 if quick else FOLDS)]
    rows = []
    for name in folds[0]:
        ledger = joined([fold[name] for fold in folds])
        rates = {key: asdict(rate) for key, rate in ledger.rates().items()}
        rows.append({"system": name, "threat": f"L∞ {_EPS:g}", "n": len(ledger.row), **rates})
    listed = []
    for rate in _RATES:
        guard = joined([fold[_guard_name(rate)] for fold in folds]).rates()
        past, clean = guard["success"], guard["clean_accuracy"]
        named = f"digits, {_guard_name(rate)}"
        listed += [
            Bar(f"{named}: adaptive", past.value, past.n, interval(past), "<=", 0.07),
            Bar(f"{named}: clean accuracy", clean.value, clean.n, interval(clean), ">=", 0.985),
        ]
    lines = [
        f"Handwritten digits, 8×8, L∞ eps {_EPS:g}; {len(folds)} folds, every row attacked once. "
        "95 % Wilson intervals.",
        "",
        "| system | n | accepted and wrong / right at first | clean accuracy | review rate |",
        "|---|---|---|---|---|",
        *(
            f"| {row['system']} | {row['n']} | {_rate(row['success'])} | "
            f"{_rate(row['clean_accuracy'])} | {_rate(row['review_rate'])} |"
            for row in rows
        ),
    ]
    return rows, listed, "\n".join(lines)


def _guard_name(rate: float) -> str:
    return f"guard, {rate:.0%} to review"


def _fold(fold: int, quick: bool) -> dict[str, Ledger]:
    data = digits_fold(fold)
    epochs = 6 if quick else 60
    standard = make("standard", "standard", "digits", epochs, _EPS)
    members = tuple(
        make("pgd", f"pgd-{seed + 1}", "digits", epochs, 0.15, seed) for seed in range(_MEMBERS)
    )
    first, *hardened = trained((standard, *members), data)
    nets = [member.net for member in hardened]
    threat, select = LpBall("linf", _EPS), data["select"]
    rows = torch.arange(len(data["test"]))[: 40 if quick else None]
    few, pool = data["test"].x[:8], data["calibrate"].x
    identity = _identity((standard, *members), data.digest())
    found: dict[str, Ledger] = {}

    def attack(name: str, target: Target, suite: Suite, made: str = "") -> None:
        key = identity + name + made
        found[name], _ = attacked(
            f"{data.name}, {name}", target, data["test"], rows, threat, suite, place_of(data), key
        )

    attack("undefended", of_model(first.net, data.spec, few), strong())
    for rate in _RATES:
        best, _ = choose_weights(nets, select.x, select.y, threat, review_rate=rate)
        guard = calibrate(data, nets, best.weights, review_rate=rate)
        made = repr((best.weights, guard.rule))
        if rate == _RATES[-1]:
            top = max(range(len(nets)), key=lambda index: best.weights[index])
            bare = of_model(nets[top], data.spec, few, "bare")
            attack("the heaviest member, bare", bare, strong(), repr(top))
        attack(_guard_name(rate), of_guard(guard), guard_suite(pool, quick), made)
    return found


def _identity(trainings: tuple[Training, ...], digest: str) -> str:
    return hashlib.sha256((repr(trainings) + digest).encode()).hexdigest()


def _rate(rate: Json) -> str:
    return f"{100 * rate['value']:.2f} % ({100 * rate['low']:.2f}–{100 * rate['high']:.2f})"
