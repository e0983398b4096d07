"""Chest X-rays (PneumoniaMNIST, not the official split): missed disease under attack.

Test images are unlike the training part, as another hospital's are: a fifth of them stands for what
a site has of its own to choose and calibrate by, and the figures are of the rest. The hardened net
against AutoAttack's kind of attacker, class by class; the guard at a fixed share of referrals;
corrupted and foreign images; and 16-bit files, value by value.
"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.results_file import Bar, percent
from buckler import draws
from buckler.assess import Ledger, assess, of_guard, of_model
from buckler.assess.parallel import side_by_side
from buckler.assess.per_class import PerClass, balanced_accuracy, per_class
from buckler.attacks import PGD, suites
from buckler.data import Dataset, Split
from buckler.guard import Guard, calibrate
from buckler.harden import RECIPES, RobustValidation, harden
from buckler.inputs import InputSpec
from buckler.stats import wilson
from buckler.threats import Corruption, LpBall

Json = dict[str, Any]
NAMES = ("normal", "pneumonia")
EPS = 2 / 255
_REFERRED = 0.05
_WITHIN = 0.03
_CANDIDATES = (
    ("standard", 4, 1.0), ("standard", 20, 1.0), ("pgd", 6, 1.5), ("pgd", 25, 1.5), ("pgd", 12, 4.0)
)  # fmt: skip
"""Recipe, epochs, and the radius trained at / the threat's."""
_GRIDS = (((0.0, 1.0), 65536), ((0.0, 4095.0), 4096), ((-1024.0, 3071.0), 4096))


def measured(folder: Path, quick: bool) -> tuple[list[Json], list[Bar], str]:
    """Rows, bars and table."""
    data = _data(folder / "pneumonia-mnist" / "pneumoniamnist.npz", quick)
    tried = side_by_side([partial(_trained, data, *each, quick) for each in _CANDIDATES], 2)
    standard, hardened = (
        _chosen(data, kind, [net for net, each in zip(tried, _CANDIDATES, strict=True)
                             if each[0] == kind])
        for kind in ("standard", "pgd")
    )  # fmt: skip
    guard = calibrate(
        data, (hardened,), (1.0,), detectors=("confidence", "mahalanobis"), review_rate=_REFERRED
    )
    test, threat = data["test"], LpBall("linf", EPS)
    systems = {"ordinary": standard, "hardened": hardened}
    ledgers = {
        name: assess(
            of_model(net, data.spec, test.x[:64], name), test.x, test.y, threat, suites.strong()
        ).ledger
        for name, net in systems.items()
    }
    suite = suites.adaptive(data["calibrate"].x, 40, 2, 250)
    ledgers["hardened, guarded"] = assess(of_guard(guard), test.x, test.y, threat, suite).ledger
    rows = {
        (name, attacked): per_class(ledger, NAMES, attacked)
        for name, ledger in ledgers.items()
        for attacked in (False, True)
    }
    sent = _sent_to_people(guard, data)
    wrong = sum(_lost(box, levels) for box, levels in _GRIDS)
    text = "\n".join([*_table(rows, ledgers), "", *_sentences(sent, wrong)])
    facts = [
        {"system": name, "attacked": attacked, "classes": [row.to_dict() for row in found]}
        for (name, attacked), found in rows.items()
    ]
    return [*facts, {"referred": sent}], _bars(rows, len(test), wrong), text


def _data(path: Path, quick: bool) -> Dataset:
    """fit and select from the training and validation parts; the rarer class is seen as often as
    the other while training. calibrate: the site's fifth of the test part."""
    with np.load(path, allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    spec = InputSpec((1, 28, 28), NAMES, levels=256)

    def part(*names: str) -> tuple[Tensor, Tensor]:
        x = np.concatenate([parts[f"{name}_images"] for name in names])
        y = np.concatenate([parts[f"{name}_labels"] for name in names])
        return spec.of_levels(x[:, None]), torch.from_numpy(y[:, 0].astype(np.int64))

    x, y = part("train", "val")
    order = draws.permutation(draws.derive(0, "pneumonia"), 0, len(x))
    cuts = {"select": order[:400], "fit": order[400:]}
    few = cuts["fit"][y[cuts["fit"]] == 0]
    again = (y[cuts["fit"]] == 1).sum() - len(few)
    cuts["fit"] = torch.cat([cuts["fit"], few.repeat(9)[:again]])
    splits = {name: _split(x[rows], y[rows], name) for name, rows in cuts.items()}
    x, y = part("test")
    order = draws.permutation(draws.derive(0, "site"), 0, len(x))
    own, rest = order[:124], order[124 : 200 if quick else len(x)].sort().values
    splits["calibrate"] = _split(x[own], y[own], "site")
    splits["test"] = splits["verify"] = _split(x[rest], y[rest], "test")
    return Dataset("pneumonia", spec, splits, duplicates=0)


def _split(x: Tensor, y: Tensor, name: str) -> Split:
    return Split(x, y, tuple(f"{name}:{row}" for row in range(len(x))))


def _net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, 2, 2), nn.ReLU(), nn.Conv2d(32, 64, 5, 2, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 2),
    )  # fmt: skip


def _trained(data: Dataset, kind: str, epochs: int, beyond: float, quick: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = _net()
    fit, select = data["fit"], data["select"]
    recipe = RECIPES[kind](2 if quick else epochs, LpBall("linf", beyond * EPS))
    validate = RobustValidation(select.x, select.y, LpBall("linf", EPS))
    found = harden(net, fit.x, fit.y, replace(recipe, batch_size=64), validate, seed=0)
    return found.model.eval().requires_grad_(False)


def _chosen(data: Dataset, kind: str, nets: list[nn.Module]) -> nn.Module:
    """By balanced accuracy on the site's images: as they are, or under PGD for hardened nets."""
    x, y = data["calibrate"].x, data["calibrate"].y

    def score(net: nn.Module) -> float:
        at = x
        if kind == "pgd":
            at = PGD(steps=30, restarts=2, loss="margin")(net, x, y, LpBall("linf", EPS))
        answer = net(at).argmax(1)
        return sum(float((answer[y == c] == c).double().mean()) for c in (0, 1))

    return max(nets, key=score)


def _sent_to_people(guard: Guard, data: Dataset) -> Json:
    """The share sent to review of test images as they are, corrupted, and of no such kind."""
    x, ids = data["test"].x, torch.arange(len(data["test"]))
    worn = Corruption(box=data.spec.box)
    kinds = {"as they are": x}
    for kind in ("gaussian_noise", "defocus_blur", "contrast", "brightness"):
        kinds[f"{kind.replace('_', ' ')}, severity 3"] = worn.corrupt(x, kind, 3, 0, ids)
    kinds["turned by 90 degrees"] = x.rot90(1, (2, 3))
    kinds["upside down"] = x.flip(2)
    kinds["inverted"] = 1 - x
    kinds["noise alone"] = draws.uniform(1, ids, 0, (1, 28, 28))
    found = {}
    for name, rows in kinds.items():
        held = sum(verdict.status == "SUSPICIOUS" for verdict in guard.judge(data.spec.snap(rows)))
        found[name] = asdict(wilson(held, len(rows)))
    return found


def _lost(box: tuple[float, float], levels: int) -> int:
    """Of every value that a 16-bit file can hold, those that do not come back as they were."""
    spec = InputSpec((1, 256, 256), NAMES, box, levels)
    stored = (np.arange(65536) % levels).astype(np.uint16).reshape(1, 1, 256, 256)
    x = spec.of_levels(stored)
    again = spec.decode(spec.encode(x[0]))
    return int((again != x).sum()) + (levels - len(x.unique()))


def _table(rows: dict[tuple[str, bool], list[PerClass]], ledgers: dict[str, Ledger]) -> list[str]:
    lines = [
        f"PneumoniaMNIST, not the official split; L∞ 2/255; {len(ledgers['ordinary'].row)} test "
        "images; `strong` on the nets, the adaptive suite on the guard. 95 % Wilson intervals.",
        "",
        "| system | | pneumonia found | missed | to a person | false alarms | balanced accuracy |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, attacked), (_, ill) in rows.items():
        shown = (ill.found, ill.missed, ill.referred, ill.false_alarm)
        rates = " | ".join(percent(asdict(rate)) for rate in shown)
        lines.append(
            f"| {name} | {'attacked' if attacked else 'clean'} | {rates} | "
            f"{balanced_accuracy(rows[name, attacked]):.1%} |"
        )
    return lines


def _sentences(sent: Json, wrong: int) -> list[str]:
    shares = "; ".join(f"{name} {rate['value']:.0%}" for name, rate in sent.items())
    return [
        f"- Asked to send {_REFERRED:.0%} of clean images to a person, the guard sends: {shares}.",
        f"- 16-bit files: {wrong} of 65,536 values on {len(_GRIDS)} grids come back changed.",
    ]


def _bars(rows: dict[tuple[str, bool], list[PerClass]], n: int, wrong: int) -> list[Bar]:
    clean = balanced_accuracy(rows["ordinary", False])
    held = balanced_accuracy(rows["hardened", True])
    return [
        Bar(
            "pneumonia: hardened net's balanced accuracy under attack, 2/255, less the ordinary "
            "net's clean one",
            held - clean, n, None, ">=", -_WITHIN,
        ),
        Bar("16-bit files: values changed by a round trip", wrong, 65536, None, "<=", 0),
    ]  # fmt: skip
