"""The headline's nets: trained here, by recipe, and kept by hash."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from buckler import files
from buckler.assess.parallel import side_by_side
from buckler.data import Dataset
from buckler.harden import RECIPES, Recipe, RobustValidation, harden
from buckler.harden.estimate import estimate
from buckler.models.nets import digits_cnn
from buckler.threats import LpBall

CACHE = Path("out/headline")


@dataclass(frozen=True)
class Training:
    """One net: which, how it is trained, and where its radius for validation is."""

    name: str
    net: str
    recipe: Recipe
    seed: int
    eps: float

    def key(self, data: Dataset) -> str:
        initial = getattr(self.recipe.initial, "__qualname__", "")
        plain = replace(self.recipe, initial=None)
        facts = repr((self.net, plain, initial, self.seed, self.eps, data.name, data.digest()))
        return hashlib.sha256(facts.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Trained:
    """A net in eval mode, frozen."""

    name: str
    net: nn.Module


def _conv(channels: int, a: int, b: int, hidden: int, side: int) -> nn.Module:
    """Two strided 5×5 convolutions and two linear layers."""
    features = b * (side // 4) ** 2
    return nn.Sequential(
        nn.Conv2d(channels, a, 5, 2, 2), nn.ReLU(), nn.Conv2d(a, b, 5, 2, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 10),
    )  # fmt: skip


def _thresholds(net: nn.Module) -> nn.Module:
    """The net behind four ramps of each pixel, trained with it: nets hardened at a large radius
    learn such thresholds anyway (Madry et al. 2018, appendix C), at the cost of wide filters."""
    ramps = nn.Conv2d(1, 4, 1)
    with torch.no_grad():
        ramps.weight.copy_(torch.tensor([2.0, 2.0, 2.0, -2.0]).view(4, 1, 1, 1))
        ramps.bias.copy_(torch.tensor([-0.6, -1.0, -1.4, 1.0]))  # type: ignore[union-attr]
    return nn.Sequential(ramps, nn.ReLU(), net)


_NETS: dict[str, Callable[[], nn.Module]] = {
    "digits": digits_cnn,
    "wide": partial(_conv, 1, 32, 64, 256, 28),
    "ramps": lambda: _thresholds(_conv(4, 32, 64, 256, 28)),
    "colour": partial(_conv, 3, 32, 64, 256, 32),
}


def make(
    kind: str, name: str, net: str, epochs: int, eps: float, seed: int = 0, beyond: float = 1.0
) -> Training:
    """A training by recipe name, judged at eps and trained at `beyond` times as much."""
    return Training(name, net, RECIPES[kind](epochs, LpBall("linf", eps * beyond)), seed, eps)


def trained(trainings: tuple[Training, ...], data: Dataset) -> list[Trained]:
    """Each net, from its file where there is one; those missing are trained side by side."""
    folder = CACHE / data.name.replace(", ", "-").replace(" ", "-") / "nets"
    missing = [t for t in trainings if not _path(folder, t, data).exists()]
    if missing:
        nets = [_fresh(training) for training in missing]  # threads share torch's generator
        jobs = [
            partial(_train, net, folder, training, data)
            for net, training in zip(nets, missing, strict=True)
        ]
        side_by_side(jobs, os.cpu_count() or 1)
    return [_load(folder, training, data) for training in trainings]


def _path(folder: Path, training: Training, data: Dataset) -> Path:
    return folder / f"{training.name}-{training.key(data)}.safetensors"


def _fresh(training: Training) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        return _NETS[training.net]()


def _train(net: nn.Module, folder: Path, training: Training, data: Dataset) -> None:
    path = _path(folder, training, data)
    fit, validate = data["fit"], _validation(training, data)
    last = [0.0]

    def say(done: int, total: int) -> None:
        if time.monotonic() - last[0] > 60:
            last[0] = time.monotonic()
            print(f"  {data.name} · {training.name}: {done / total:.0%}", flush=True)

    found = harden(
        net,
        fit.x,
        fit.y,
        training.recipe,
        validate,
        seed=training.seed,
        checkpoint=path.with_suffix(".checkpoint"),
        progress=say,
    )
    seconds = sum(row["seconds"] for row in found.history)
    files.write_json(path.with_suffix(".json"), {"seconds": seconds, "history": found.history})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in found.model.state_dict().items()}, part)
    part.rename(path)
    print(f"  {data.name} · {training.name}: {seconds:.0f} s, score {found.score:.4f}", flush=True)


def _load(folder: Path, training: Training, data: Dataset) -> Trained:
    path = _path(folder, training, data)
    net = _fresh(training)
    net.load_state_dict(load_file(path))
    return Trained(training.name, net.eval().requires_grad_(False))


def timed(trainings: tuple[Training, ...], data: Dataset) -> dict[str, float]:
    """Seconds of each whole training, from steps timed now, as many at once as there are cores:
    what the clock said while they ran counts whatever else the machine did."""
    jobs = [partial(_timed, training, data) for training in trainings]
    found = side_by_side(jobs, os.cpu_count() or 1)
    return {training.name: seconds for training, seconds in zip(trainings, found, strict=True)}


def _timed(training: Training, data: Dataset) -> float:
    recipe, fit = training.recipe, data["fit"]
    found = estimate(_fresh(training), fit.x, fit.y, recipe, _validation(training, data))
    return found.of(recipe)


def _validation(training: Training, data: Dataset) -> RobustValidation:
    select, one_step = data["select"], training.recipe.fallback is not None
    return RobustValidation(select.x, select.y, LpBall("linf", training.eps), one_step=one_step)
