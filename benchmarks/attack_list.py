"""The races: which attack of ours meets which peers, with which settings, at which radius."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from benchmarks.attack_cases import Case
from benchmarks.attack_nets import Data, Recipe, right_rows
from benchmarks.attack_peers import Setting
from buckler.attacks.pgd import PGD
from buckler.threats import LpBall

FAMILIES = ("gradient", "minimal", "score", "decision", "transfer")
_SIGN = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}
_GRID = {
    "linf": tuple(k / 255 for k in (1, 1.5, 2, 3, 4, 6, 8, 10, 12, 16, 20, 25, 30, 40, 50, 60, 75)),
    "l2": tuple(k / 100 for k in (5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 125, 150, 200, 250, 300)),
}
_CHIEF = ("PGD-40 L∞", "APGD-CE L∞", "APGD-T L∞", "FMN L2", "Square L∞", "TI-FGSM L∞")
_GRADIENT = ("adv-lib", "torchattacks", "foolbox", "ART", "pyautoattack")


def choose_eps(net: nn.Module, data: Data, recipe: Recipe) -> dict[str, float]:
    """The radii a net is attacked at, on a grid: the first at which PGD-40 leaves at most 25 % of
    200 right rows (an ordinary net), or at most 60 % (a trained one under L2); a net trained
    against L∞ is attacked at the radius it was trained for."""
    x, y = right_rows(net, data, 200, 1000)
    found = {"linf": recipe.eps} if recipe.eps else {}
    for norm, grid in _GRID.items():
        if norm in found:
            continue
        for eps in grid:
            x_adv = PGD(steps=40, step_size=0.25)(net, x, y, LpBall(norm, eps))  # type: ignore[arg-type]
            with torch.no_grad():
                robust = float((net(x_adv).argmax(1) == y).float().mean())
            found[norm] = eps
            if robust <= (0.6 if recipe.eps else 0.25):
                break
    return found


def cases(quick: bool, large: bool = False) -> list[Case]:
    """Every race; quick ones take a fraction of the steps. A large net runs the chief ones only,
    on half of the rows."""
    found = [*_gradient(), *_minimal(), *_score(), *_decision(), *_transfer()]
    if large:
        chief = [case for case in found if case.name in _CHIEF]
        found = [replace(case, share=case.share / 2) for case in chief]
    return [_quick(case) for case in found] if quick else found


def _gradient() -> list[Case]:
    found = []
    for norm in ("linf", "l2"):
        with_pgd = [p for p in _GRADIENT[:4] if norm == "linf" or p != "adv-lib"]
        setting = Setting(norm=norm, steps=40, step_size=0.25)
        options: dict[str, Any] = {"steps": 40, "step_size": 0.25}
        named = f"PGD-40 {_SIGN[norm]}"
        found.append(_case(named, "gradient", "PGD", options, "pgd", with_pgd, setting, floor=True))
        setting = Setting(norm=norm, steps=100)
        with_apgd = ("adv-lib", "torchattacks", "pyautoattack")  # ART keeps the last iterate
        for loss in ("ce", "dlr"):
            named = f"APGD-{loss.upper()} {_SIGN[norm]}"
            options, with_loss = {"steps": 100, "loss": loss}, replace(setting, loss=loss)
            part = 1.0 if loss == "ce" else 0.5
            found.append(
                _case(named, "gradient", "APGD", options, "apgd", with_apgd, with_loss, share=part)
            )
    setting = Setting(norm="linf", steps=100, targets=9)
    options = {"steps": 100, "loss": "dlr", "targets": 9}
    peers = ("adv-lib", "torchattacks", "pyautoattack")
    found.append(
        _case("APGD-T L∞", "gradient", "APGD", options, "apgd-t", peers, setting, share=0.2)
    )
    return found


def _minimal() -> list[Case]:
    def add(
        name: str, ours: str, options: Any, word: str, peers: Any, s: Setting, share: float
    ) -> None:
        found.append(_case(name, "minimal", ours, options, word, peers, s, "minimal", share))

    found: list[Case] = []
    both = ("adv-lib", "foolbox")
    for norm in ("linf", "l2", "l1", "l0"):
        s = Setting(norm=norm, steps=100)
        add(f"FMN {_SIGN[norm]}", "FMN", {"steps": 100}, "fmn", both, s, 0.25)
    l2 = Setting(norm="l2", steps=100)
    add("DDN L2", "DDN", {"steps": 100}, "ddn", both, l2, 0.25)
    sparse = Setting(norm="l0", steps=300)
    add("σ-zero L0", "SigmaZero", {"steps": 300}, "sigma-zero", ("adv-lib",), sparse, 0.1)
    carlini = Setting(norm="l2", steps=200, searches=5)
    every = ("adv-lib", "foolbox", "torchattacks", "ART")
    add("C&W L2", "CW", {"steps": 200, "searches": 5}, "cw", every, carlini, 0.05)
    for norm in ("linf", "l2"):
        s = Setting(norm=norm, steps=50)
        raced: tuple[str, ...] = every if norm == "l2" else both
        add(f"DeepFool {_SIGN[norm]}", "DeepFool", {"steps": 50}, "deepfool", raced, s, 0.1)
        # Its peers' untargeted form takes every class's gradient in each step; ours tries three.
        words: tuple[tuple[str, str], ...] = (("torchattacks", "fab"), ("pyautoattack", "fab"))
        named, options = f"FAB {_SIGN[norm]}, 3 targets", {"steps": 50, "targets": 3}
        found.append(Case(named, "minimal", ("FAB", options), words, s, "minimal", 0.1))
        words, options = (("adv-lib", "fab-t"),), {"steps": 50, "targets": 9}
        named = f"FAB-T {_SIGN[norm]}, nearest"
        found.append(Case(named, "minimal", ("FAB", options), words, s, "minimal", 0.1))
        words = (("torchattacks", "fab-t"), ("pyautoattack", "fab-t"))
        named, options = f"FAB-T {_SIGN[norm]}, within eps", {**options, "within": True}
        found.append(Case(named, "minimal", ("FAB", options), words, s, "fixed", 0.1))
    return found


def _score() -> list[Case]:
    found = []
    for norm in ("linf", "l2"):
        setting = Setting(norm=norm, queries=1000)
        peers = ("torchattacks", "pyautoattack", "ART")
        named, options = f"Square {_SIGN[norm]}", {"queries": 1000}
        found.append(_case(named, "score", "Square", options, "square", peers, setting, share=0.2))
    # ART's SimBA knows no radius: 500 steps of 0.2, up and down, stay within 0.2·√500 if all count.
    setting, words = Setting(norm="l2", queries=1000, step_size=0.2), _words("simba", "ART")
    simba = ("SimBA", {"queries": 1000, "step_size": 0.05, "basis": "pixel"})
    found.append(Case("SimBA L2", "score", simba, words, setting, share=0.02, radius=4.0))
    setting = Setting(norm="pixels", steps=30, population=100)
    words, pixel = _words("one-pixel", "torchattacks", "ART"), ("OnePixel", {"generations": 30})
    found.append(Case("one pixel", "score", pixel, words, setting, "fixed", 0.02))
    return found


def _decision() -> list[Case]:
    """Eight rounds of the peers' take about as many queries as ours is given: see the table."""
    found = []
    for norm in ("l2", "linf"):
        setting, words = Setting(norm=norm, steps=8), _words("hop-skip-jump", "foolbox", "ART")
        ours = ("HopSkipJump", {"queries": 1800})
        named = f"HopSkipJump {_SIGN[norm]}"
        found.append(Case(named, "decision", ours, words, setting, "minimal", 0.03))
    return found


def _transfer() -> list[Case]:
    """MI, DI and TI as white-box attacks with the same steps: what each costs, and wins."""
    found = []
    for word in ("mi", "di", "ti"):
        setting = Setting(steps=10, step_size=0.25)
        options: dict[str, Any] = {"steps": 10, "step_size": 0.25, "copies": 1}
        options |= {"diversity": 0.5 * (word != "mi"), "kernel": 15 * (word == "ti")}
        peers = ("torchattacks", "ART") if word == "mi" else ("torchattacks",)
        named = f"{word.upper()}-FGSM L∞"
        case = _case(named, "transfer", "Transfer", options, word, peers, setting, share=0.3)
        found.append(replace(case, colour=word == "ti"))
    return found


def _words(word: str, *libraries: str) -> tuple[tuple[str, str], ...]:
    return tuple((library, word) for library in libraries)


def _case(
    name: str,
    family: str,
    ours: str,
    options: dict[str, Any],
    word: str,
    peers: Any,
    setting: Setting,
    kind: Any = "fixed",
    share: float = 1.0,
    floor: bool = False,
) -> Case:
    theirs = _words(word, *peers)
    return Case(name, family, (ours, options), theirs, setting, kind, share, floor=floor)


def _quick(case: Case) -> Case:
    """A fifth of the steps and queries, fewer targets and searches."""
    ours, options = case.ours
    fewer = {"targets": 3, "searches": 4}
    smaller = {
        key: max(4, value // 5)
        if key in ("steps", "generations", "queries")
        else min(value, fewer.get(key, value))
        for key, value in options.items()
    }
    s = case.setting
    steps, queries = max(4, s.steps // 5), max(4, s.queries // 5)
    setting = replace(s, steps=steps, queries=queries, targets=min(s.targets, 3), searches=4)
    if case.family == "decision":
        setting, smaller = replace(s, steps=2), {"queries": 400}
    return replace(case, ours=(ours, smaller), setting=setting, share=max(case.share, 0.125))
