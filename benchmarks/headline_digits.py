"""The headline on the digits: five folds, so that each of the 1,797 rows is attacked once."""

import hashlib
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.headline_attacks import attacked, guard_suite, interval, joined, place_of
from benchmarks.headline_data import FOLDS, digits_fold
from benchmarks.headline_nets import Training, make, trained
from benchmarks.results_file import Bar
from buckler.assess import Ledger, of_guard, of_model
from buckler.attacks.suites import strong
from buckler.guard import calibrate
from buckler.harden import choose_weights
from buckler.threats import LpBall

Json = dict[str, Any]
_EPS = 0.1
_MEMBERS = 4
_RATE = 0.01


def measured(quick: bool) -> tuple[list[Json], list[Bar], str]:
    """The rows, the bars and the table."""
    folds = [_fold(fold, quick) for fold in range(1 if quick else FOLDS)]
    rows = []
    for name in ("undefended", "best bare member", "guard"):
        ledger = joined([fold[name] for fold in folds])
        rates = {key: asdict(rate) for key, rate in ledger.rates().items()}
        rows.append({"system": name, "threat": f"L∞ {_EPS:g}", "n": len(ledger.row), **rates})
    guard = joined([fold["guard"] for fold in folds]).rates()
    listed = [
        Bar(
            "digits, guarded, accepted and wrong, adaptive",
            guard["success"].value,
            guard["success"].n,
            interval(guard["success"]),
            "<=",
            0.07,
        ),
        Bar(
            "digits, guarded, clean accuracy",
            guard["clean_accuracy"].value,
            guard["clean_accuracy"].n,
            interval(guard["clean_accuracy"]),
            ">=",
            0.985,
        ),
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
    best, _ = choose_weights(nets, select.x, select.y, threat, review_rate=_RATE)
    guard = calibrate(data, nets, best.weights, review_rate=_RATE)
    rows = torch.arange(len(data["test"]))[: 40 if quick else None]
    identity = _identity((standard, *members), data.digest())
    place, few = place_of(data), data["test"].x[:8]
    pool = data["calibrate"].x
    top = max(range(len(nets)), key=lambda index: best.weights[index])
    systems = {
        "undefended": (of_model(first.net, data.spec, few), strong()),
        "best bare member": (of_model(nets[top], data.spec, few, "best bare member"), strong()),
        "guard": (of_guard(guard), guard_suite(pool, quick)),
    }
    return {
        name: attacked(name, target, data["test"], rows, threat, suite, place, identity + name)[0]
        for name, (target, suite) in systems.items()
    }


def _identity(trainings: tuple[Training, ...], digest: str) -> str:
    return hashlib.sha256((repr(trainings) + digest).encode()).hexdigest()


def _rate(rate: Json) -> str:
    return f"{100 * rate['value']:.2f} % ({100 * rate['low']:.2f}–{100 * rate['high']:.2f})"
