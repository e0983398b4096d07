"""The nets that certificates are measured on: trained here by recipe, and kept by hash."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from buckler import draws, files
from buckler.attacks.engine import logits_of
from buckler.data import Dataset
from buckler.harden import MaskedValidation, Recipe, RobustValidation, harden
from buckler.harden.certified import Certified, narrow_start
from buckler.harden.objectives import Noise, Standard
from buckler.harden.occluded import Occluded
from buckler.harden.validate import Validation
from buckler.protocols import Classifier
from buckler.threats import LpBall, Patch

CACHE = Path("out/certify/nets")
ANY = (-torch.inf, torch.inf)  # certificates are about noise that is not clipped
PATCH = Patch((4, 4))  # 2.04 % of 28×28


@dataclass(frozen=True)
class Net:
    """An architecture, how it is trained, and what validation looks at."""

    name: str
    build: Callable[[], nn.Module]
    recipe: Recipe
    validate: Callable[[Tensor, Tensor], Callable[[Classifier], Validation]]
    seed: int = 0

    def path(self, data: Dataset) -> Path:
        plain = replace(self.recipe, initial=None)
        facts = repr((str(self.build()), plain, self.seed, data.name, data.digest()))
        key = hashlib.sha256(facts.encode()).hexdigest()[:12]
        return CACHE / f"{data.name}-{self.name}-{key}.safetensors"


@dataclass(frozen=True)
class NoisyValidation:
    """Right as it is, and under one draw of this noise."""

    x: Tensor
    y: Tensor
    sigma: float

    def __call__(self, model: Classifier) -> Validation:
        noise = draws.normal(0, torch.arange(len(self.x)), 0, tuple(self.x.shape[1:]))
        right = [
            float((logits_of(model, x).argmax(1) == self.y).float().mean())
            for x in (self.x, self.x + self.sigma * noise)
        ]
        return Validation(right[0], right[1])


def small() -> nn.Module:
    """Two convolutions and two linear layers for 28×28, of 166,406 numbers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


def flat(inputs: int) -> nn.Sequential:
    """One hidden layer: small enough for 100,000 draws a row."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 10))


def medium() -> nn.Module:
    """Two wider convolutions and two linear layers for 28×28."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def noisy(sigma: float, data: Dataset) -> Net:
    """For smoothing with this sigma."""
    inputs = data["fit"].x[0].numel()
    objective = Noise(sigma=sigma, box=ANY, smoothing=0.0)
    recipe = Recipe("noise", objective, 8 if inputs > 64 else 60)
    return Net(
        f"noise-{sigma:g}",
        lambda: flat(inputs),
        recipe,
        lambda x, y: NoisyValidation(x, y, sigma),
    )


@dataclass(frozen=True)
class Masks:
    """per_side, fill: as in certify.Masked; epochs of the training for them."""

    per_side: int
    fill: float
    epochs: int

    @property
    def name(self) -> str:
        return f"{self.per_side} masks a side, showing {self.fill:g}"


MASKS = (Masks(9, 0.0, 10), Masks(13, 0.5, 15))
"""Of 6×6 pixels in black, which on MNIST is the ground's colour; of 5×5 pixels in grey, which a net
can tell from it."""


def occluded(masks: Masks) -> Net:
    """Trained for masks against PATCH."""
    side, fill = masks.per_side, masks.fill
    objective = Occluded(threat=PATCH, per_side=side, fill=fill, tries=4)
    recipe = Recipe(
        "occluded", objective, masks.epochs, validate_every=1 if masks.epochs == 10 else 3
    )
    most = 200 if side < 10 else 80  # rows: its pairs are four times as many
    return Net(
        "occluded", small, recipe, lambda x, y: MaskedValidation(x, y, PATCH, side, fill, most)
    )


def plain() -> Net:
    """The same net, trained as nets are: what the masks' clean loss is measured against."""
    recipe = Recipe("standard", Standard(), 10, chosen_by="clean")
    return Net("plain", small, recipe, lambda x, y: NoisyValidation(x, y, 0.0))


def proved(eps: float) -> Net:
    """For a proof by bounds of layers: trained a little beyond eps."""
    beyond, kappa = (0.2, 0.25) if eps < 0.2 else (0.35, 0.25)
    objective = Certified(LpBall("linf", eps), kappa=kappa, widen=beyond / eps)
    recipe = Recipe("certified", objective, 40, rise=0.05, warmup=0.5, initial=narrow_start)
    return Net(
        f"certified-{eps:g}",
        medium,
        recipe,
        lambda x, y: RobustValidation(x, y, LpBall("linf", eps)),
    )


def trained(net: Net, data: Dataset) -> tuple[nn.Module, float]:
    """The net in eval mode, frozen, from its file where there is one; and the CPU seconds of its
    training."""
    path = net.path(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(net.seed)
        fresh = net.build()
    if not path.exists():
        _train(net, fresh, data, path)
    fresh.load_state_dict(load_file(path))
    facts = files.read_json(path.with_suffix(".json"))
    return fresh.eval().requires_grad_(False), float(facts["seconds"])


def _train(net: Net, fresh: nn.Module, data: Dataset, path: Path) -> None:
    fit, select = data["fit"], data["select"]
    path.parent.mkdir(parents=True, exist_ok=True)
    spent = path.with_suffix(".cpu.json")  # an interrupted training goes on
    before = float(files.read_json(spent)["seconds"]) if spent.exists() else 0.0
    began, last = time.process_time(), [time.monotonic()]

    def seconds() -> float:
        return before + time.process_time() - began

    def say(done: int, total: int) -> None:
        if time.monotonic() - last[0] > 30:
            last[0] = time.monotonic()
            files.write_json(spent, {"seconds": seconds()})
            print(f"  {path.stem}: {done / total:.0%}, {seconds():.0f} CPU s", flush=True)

    found = harden(
        fresh,
        fit.x,
        fit.y,
        net.recipe,
        net.validate(select.x, select.y),
        seed=net.seed,
        checkpoint=path.with_suffix(".checkpoint"),
        progress=say,
    )
    files.write_json(path.with_suffix(".json"), {"seconds": seconds(), "history": found.history})
    part = path.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in found.model.state_dict().items()}, part)
    part.rename(path)
    print(f"  {path.stem}: {seconds():.0f} CPU s, score {found.score:.4f}", flush=True)
