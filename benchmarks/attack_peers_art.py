"""ART's attacks (adversarial-robustness-toolbox), which take and give NumPy arrays."""

import importlib
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.attack_peers import Setting
from benchmarks.attack_timing import Attacker


def art(attack: str, s: Setting) -> Attacker:
    """pgd, apgd, cw, deepfool, square, simba, one-pixel, hop-skip-jump, mi."""
    evasion: Any = importlib.import_module("art.attacks.evasion")
    estimators: Any = importlib.import_module("art.estimators.classification")

    def call(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        np.random.seed(seed)
        random.seed(seed)
        model = net
        if attack == "simba":  # it reads probabilities
            model = nn.Sequential(net, nn.Softmax(1)).eval()
        if attack == "hop-skip-jump":  # it hands over float64
            model = nn.Sequential(_Single(), net).eval()
        classifier = estimators.PyTorchClassifier(
            model=model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=10,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        made = _attack(evasion, attack, classifier, s, len(x))
        hot = np.eye(10, dtype=np.float32)[y.numpy()]
        return torch.from_numpy(made.generate(x=x.numpy().copy(), y=hot)).to(x)

    return call


def _attack(lib: Any, attack: str, net: Any, s: Setting, n: int) -> Any:
    p = {"linf": float("inf"), "l2": 2}.get(s.norm)
    size: dict[str, Any] = {"eps": s.eps, "eps_step": s.step_size * s.eps, "batch_size": n}
    quiet: dict[str, Any] = {"verbose": False}
    match attack:
        case "pgd":
            return lib.ProjectedGradientDescent(net, norm=p, max_iter=s.steps, **size, **quiet)
        case "mi":
            return lib.MomentumIterativeMethod(net, max_iter=s.steps, **size, **quiet)
        case "apgd":
            loss = {"ce": "cross_entropy", "dlr": "difference_logits_ratio"}[s.loss]
            size["eps_step"] = 2 * s.eps  # the paper's first step; its default is 0.1
            options = {"max_iter": s.steps, "nb_random_init": 1, "loss_type": loss}
            return lib.AutoProjectedGradientDescent(net, p, **options, **size, **quiet)
        case "cw":
            options = {"binary_search_steps": s.searches, "max_iter": s.steps, "batch_size": n}
            return lib.CarliniL2Method(net, **options, **quiet)
        case "deepfool":
            return lib.DeepFool(net, max_iter=s.steps, batch_size=n, **quiet)
        case "square":
            options = {"max_iter": s.queries, "eps": s.eps, "batch_size": n}
            return lib.SquareAttack(net, norm=p, **options, **quiet)
        case "simba":
            return lib.SimBA(net, "px", max_iter=s.queries // 2, epsilon=s.step_size, **quiet)
        case "one-pixel":
            return lib.PixelAttack(net, th=1, es=1, max_iter=s.steps, **quiet)
        case "hop-skip-jump":
            return lib.HopSkipJump(net, norm=p, max_iter=s.steps, **quiet)
    raise ValueError(f"ART has no adapter for {attack!r}")


class _Single(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()
