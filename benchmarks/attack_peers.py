"""Other libraries' attacks, each as net, x, y, seed → x_adv, with our settings carried over.

Nothing of them is imported before it is asked for. They see the same frozen net in eval mode, no
random start, the same number of steps and the same step size, and all rows of a batch at once.
"""

import importlib
import math
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.attack_timing import Attacker

LIBRARIES = {
    "adv-lib": "adv-lib",
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "ART": "adversarial-robustness-toolbox",
    "pyautoattack": "pyautoattack",
}
_INF = float("inf")
_P = {"linf": _INF, "l2": 2, "l1": 1, "l0": 0}
_NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}


@dataclass(frozen=True)
class Setting:
    """What every library is asked for. step_size is a fraction of eps; targets: classes tried."""

    norm: str = "linf"
    eps: float = 0.1
    steps: int = 40
    step_size: float = 0.25
    loss: str = "ce"
    targets: int = 9
    searches: int = 5
    queries: int = 1000
    population: int = 100


def versions() -> dict[str, str]:
    return {name: version(package) for name, package in LIBRARIES.items()}


def adv_lib(attack: str, s: Setting) -> Attacker:
    """pgd, apgd, apgd-t, fmn, ddn, sigma-zero, cw, deepfool, fab-t (the nearest point)."""
    lib = _adv_lib()

    def call(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        p = _P[s.norm]
        match attack:
            case "pgd":
                size, loss = s.step_size, s.loss
                options = {"random_init": False, "relative_step_size": size, "loss_function": loss}
                out = lib.pgd_linf(net, x, y, s.eps, steps=s.steps, **options)
            case "apgd":
                out = lib.apgd(net, x, y, s.eps, p, n_iter=s.steps, loss_function=s.loss)
            case "apgd-t":
                k = s.targets
                out = lib.apgd_targeted(net, x, y, s.eps, p, n_iter=s.steps, num_targets=k)
            case "fmn":
                out = lib.fmn(net, x, y, p, steps=s.steps)
            case "ddn":
                out = lib.ddn(net, x, y, steps=s.steps, levels=None)
            case "sigma-zero":
                out = lib.sigma_zero(net, x, y, num_steps=s.steps)
            case "cw":
                options = {"binary_search_steps": s.searches, "max_iterations": s.steps}
                out = lib.carlini_wagner_l2(net, x, y, **options)
            case "deepfool":
                out = lib.df(net, x, y, steps=s.steps, norm=p, return_unsuccessful=True)
            case "fab-t":
                options = {"targeted_restarts": True, "restarts": s.targets}
                out = lib.fab(net, x, y, p, n_iter=s.steps, **options)
            case _:
                raise ValueError(f"adv-lib has no adapter for {attack!r}")
        return torch.as_tensor(out)

    return call


def torchattacks(attack: str, s: Setting) -> Attacker:
    """pgd, apgd, apgd-t, cw, deepfool, fab, fab-t, square, one-pixel, mi, di, ti."""
    lib: Any = importlib.import_module("torchattacks")

    def call(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        size = s.step_size * s.eps
        norm = _NAMES.get(s.norm, "")
        common = {"norm": norm, "eps": s.eps, "seed": seed}
        sized = {"eps": s.eps, "alpha": size, "steps": s.steps}
        match attack:
            case "pgd" if s.norm == "linf":
                made = lib.PGD(net, **sized, random_start=False)
            case "pgd":
                made = lib.PGDL2(net, **sized, random_start=False)
            case "apgd":
                made = lib.APGD(net, **common, steps=s.steps, loss=s.loss)
            case "apgd-t":
                made = lib.APGDT(net, **common, steps=s.steps, n_classes=s.targets + 1)
            case "cw":
                made = lib.CW(net, c=1, steps=s.steps * s.searches)
            case "deepfool":
                made = lib.DeepFool(net, steps=s.steps)
            case "fab":
                made = lib.FAB(net, **{**common, "eps": math.inf}, steps=s.steps)
            case "fab-t":
                n = s.targets + 1
                made = lib.FAB(net, **common, steps=s.steps, multi_targeted=True, n_classes=n)
            case "square":
                made = lib.Square(net, **common, n_queries=s.queries)
            case "one-pixel":
                made = lib.OnePixel(
                    net, steps=s.steps, popsize=s.population, inf_batch=s.population
                )
            case "mi":
                made = lib.MIFGSM(net, **sized, decay=1.0)
            case "di":
                made = lib.DIFGSM(net, **sized, decay=1.0)
            case "ti":
                made = lib.TIFGSM(net, **sized, decay=1.0)
            case _:
                raise ValueError(f"torchattacks has no adapter for {attack!r}")
        return torch.as_tensor(made(x, y))

    return call


def foolbox(attack: str, s: Setting) -> Attacker:
    """pgd, fmn, ddn, cw, deepfool, hop-skip-jump."""
    lib: Any = importlib.import_module("foolbox")
    a = lib.attacks

    def call(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        eps: float | None = None
        match attack:
            case "pgd":
                kind = a.LinfPGD if s.norm == "linf" else a.L2PGD
                made = kind(rel_stepsize=s.step_size, steps=s.steps, random_start=False)
                eps = s.eps
            case "fmn":
                kinds = {"l0": "L0", "l1": "L1", "l2": "L2", "linf": "LInf"}
                made = getattr(a, f"{kinds[s.norm]}FMNAttack")(steps=s.steps)
            case "ddn":
                made = a.DDNAttack(steps=s.steps)
            case "cw":
                options = {"binary_search_steps": s.searches, "steps": s.steps}
                made = a.L2CarliniWagnerAttack(**options)
            case "deepfool":
                kind = a.L2DeepFoolAttack if s.norm == "l2" else a.LinfDeepFoolAttack
                made = kind(steps=s.steps)
            case "hop-skip-jump":
                made = a.HopSkipJumpAttack(steps=s.steps, constraint=s.norm)
            case _:
                raise ValueError(f"Foolbox has no adapter for {attack!r}")
        model = lib.PyTorchModel(net, bounds=(0, 1), device=x.device)
        _, clipped, _ = made(model, x, y, epsilons=eps)
        return torch.as_tensor(clipped)

    return call


def pyautoattack(attack: str, s: Setting) -> Attacker:
    """apgd, apgd-t, fab, fab-t, square; and standard, the four in a row, in its batches of 250."""
    lib = importlib.import_module("pyautoattack")

    def call(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        common = {"eps": s.eps, "norm": _NAMES[s.norm], "seed": seed, "device": x.device}
        match attack:
            case "standard" | "standard without square":
                whole = lib.AutoAttack(net, **common, version="standard")
                if attack != "standard":
                    whole.attacks_to_run = ["apgd-ce", "apgd-t", "fab-t"]
                return torch.as_tensor(whole.run_standard_evaluation(x, y, batch_size=250)[0])
            case "apgd":
                made = _part(lib, "autopgd_base").APGDAttack(
                    net, n_iter=s.steps, loss=s.loss, **common
                )
            case "apgd-t":
                made = _part(lib, "autopgd_base").APGDAttack_targeted(
                    net, n_iter=s.steps, n_target_classes=s.targets, **common
                )
            case "fab":
                made = _part(lib, "fab_pt").FABAttack_PT(
                    net, n_iter=s.steps, **{**common, "eps": math.inf}
                )
            case "fab-t":
                made = _part(lib, "fab_pt").FABAttack_PT(
                    net, n_iter=s.steps, targeted=True, n_target_classes=s.targets, **common
                )
            case "square":
                made = _part(lib, "square").SquareAttack(
                    net, n_queries=s.queries, resc_schedule=True, **common
                )
            case _:
                raise ValueError(f"pyautoattack has no adapter for {attack!r}")
        return torch.as_tensor(made.perturb(x, y))

    return call


def _part(lib: ModuleType, name: str) -> Any:
    return importlib.import_module(f"{lib.__name__}.{name}")


def _adv_lib() -> Any:
    """adv-lib imports visdom, torchvision and distutils for parts that are not used here."""
    for name in ("visdom", "torchvision", "torchvision.models", "distutils", "distutils.version"):
        try:
            importlib.import_module(name)
        except ImportError:
            module: Any = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            module.models = module.LooseVersion = _LooseVersion
            sys.modules[name] = module
    return importlib.import_module("adv_lib.attacks")


class _LooseVersion(tuple[int, ...]):
    """What adv-lib asks of distutils: is this torch at least that one."""

    def __new__(cls, text: str) -> "_LooseVersion":
        numbers = text.split("+")[0].split(".")
        return super().__new__(cls, (int(part) for part in numbers if part.isdigit()))
