"""Bounds of layers: published nets' certified accuracies again, and soundness on random nets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.attack_nets import load_data
from benchmarks.certify_nets import proved, small, trained
from benchmarks.headline_data import load
from benchmarks.results_file import Bar
from buckler import files
from buckler.attacks import PGD
from buckler.certify import Crown, Interval, certified_accuracy
from buckler.certify.interval import around
from buckler.certify.linear import Inner
from buckler.stats import wilson
from buckler.threats import LpBall

OUT = Path("out/certify/linear")
_PART = 20  # rows a checkpoint
INNERS: tuple[Inner, ...] = ("interval", "linear", "both")


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut, without norms."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1)
        one_by_one = nn.Sequential(nn.Conv2d(before, after, 1, stride))
        self.shortcut = one_by_one if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


class ResNet2b(nn.Module):
    """The residual net of the α,β-CROWN benchmarks, in the published order of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer1 = nn.Sequential(Block(8, 16, 2), Block(16, 16, 1))
        self.linear1, self.linear2 = nn.Linear(1024, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer1(torch.relu(self.conv1(x))).flatten(1)
        logits: Tensor = self.linear2(torch.relu(self.linear1(h)))
        return logits


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.m, self.d = nn.Buffer(torch.zeros(1, 3, 1, 1)), nn.Buffer(torch.ones(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.m) / self.d


def ibp_small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Known:
    """A published figure: certified %, on the first n test rows, and how near it is asked for.

    "crown both": inner bounds are the tighter of CROWN's and the intervals', unit by unit, which is
    a third quicker; "crown" takes CROWN's own alone.
    """

    net: str
    data: str
    eps: float
    bounds: str
    value: float
    n: int
    within: float


KNOWN = (
    Known("ibp_mnist_small", "mnist", 0.3, "interval", 90.4, 500, 0.2),
    Known("ibp_mnist_small", "mnist", 0.3, "crown-ibp", 80.0, 500, 0.2),
    Known("ibp_mnist_small", "mnist", 0.3, "crown", 45.8, 500, 0.2),
    Known("ibp_mnist_small", "mnist", 0.1, "interval", 94.6, 500, 0.2),
    Known("ibp_mnist_small", "mnist", 0.1, "crown-ibp", 94.6, 500, 0.2),
    Known("ibp_mnist_small", "mnist", 0.1, "crown", 94.4, 500, 0.2),
    Known("kw_mnist", "mnist", 0.1, "interval", 0.0, 1000, 0.2),
    Known("kw_mnist", "mnist", 0.1, "crown both", 94.1, 1000, 0.2),
    Known("cifar_resnet2b", "cifar10-20k", 2 / 255, "crown both", 26.88, 150, 1.2),
    Known("cifar_resnet2b", "cifar10-20k", 1 / 255, "crown both", 57.16, 150, 1.2),
)
_NETS: dict[str, Callable[[], nn.Module]] = {
    "kw_mnist": small,
    "ibp_mnist_small": ibp_small,
    "cifar_resnet2b": lambda: nn.Sequential(Scaled(), ResNet2b()),
}


def oracle(name: str, folder: Path) -> nn.Module:
    net = _NETS[name]()
    net.load_state_dict(load_file(folder / "oracle-nets" / f"{name}.safetensors"))
    return net.eval().requires_grad_(False)


def again(known: Known, folder: Path, most: int) -> dict[str, Any] | None:
    """The figure measured with these bounds alone; kept every few rows. None: no row yet.

    CROWN is not asked about rows that an attack breaks: no sound bound holds there.
    """
    path = OUT / f"{known.net}-{known.eps:.4f}-{known.bounds}.json"
    net, data = oracle(known.net, folder), load_data(known.data, folder)
    x, y = data.x_test[: known.n], data.y_test[: known.n]
    kept: Any = files.read_json(path) if path.exists() else {"held": []}
    held: list[bool] = kept["held"]
    differences = _differences(net, known.bounds)
    while len(held) < min(most, len(x)):
        rows = slice(len(held), len(held) + _PART)
        few, truth = x[rows], y[rows]
        left = _unbroken(net, few, truth, known.eps) if "crown" in known.bounds else truth >= 0
        most_apart = differences(*around(few[left], known.eps, (0.0, 1.0)), truth[left])
        others = most_apart.scatter(1, truth[left][:, None], -torch.inf)
        left[left.clone()] = others.amax(1) < 0
        held += left.tolist()
        files.write_json(path, {"held": held})
    if not held:
        return None
    rate = wilson(sum(held), len(held))
    share, ends = 100 * rate.value, [100 * rate.low, 100 * rate.high]
    facts = {"net": known.net, "eps": known.eps, "bounds": known.bounds, "n": len(held)}
    measured = {"certified": share, "interval": ends, "published": known.value}
    found = {"part": "known", **facts, **measured}
    print(f"  {found}", flush=True)
    return {**found, "apart": abs(share - known.value), "within": known.within, "asked": known.n}


def _unbroken(net: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """(n,) bool: right, and right still after PGD."""
    x_adv = PGD(steps=20)(net, x, y, LpBall("linf", eps))
    with torch.no_grad():
        return (net(x).argmax(1) == y) & (net(x_adv).argmax(1) == y)


def _differences(net: nn.Module, bounds: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if bounds == "interval":
        return Interval(net).differences
    inner: dict[str, Inner] = {"crown-ibp": "interval", "crown": "linear", "crown both": "both"}
    return Crown(net, inner[bounds]).differences


def sound(points: int, nets: int = 20) -> dict[str, Any]:
    """Random points of boxes, corners among them, against the bounds of random nets, residual ones
    too, in float64: how many leave their bounds."""
    outside = total = 0
    for seed in range(nets):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = (
                nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1), nn.ReLU(), Block(4, 4, 1 + seed % 2))
                if seed % 4 < 2
                else nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 1, 1))
            )
            features = body(torch.zeros(1, 2, 6, 6)).numel()
            net = nn.Sequential(body, nn.ReLU(), nn.Flatten(), nn.Linear(features, 5)).double()
            x = torch.rand(4, 2, 6, 6, dtype=torch.float64)
            eps = (0.01, 0.05, 0.2, 0.5)[seed % 4]
            steps = 2 * torch.rand(points // nets, 4, 2, 6, 6, dtype=torch.float64) - 1
        net.eval().requires_grad_(False)
        steps[::2] = steps[::2].sign()
        logits = net((x + eps * steps).flatten(0, 1)).unflatten(0, steps.shape[:2])
        crowns = [Crown(net, inner).bounds for inner in INNERS]
        for bounds in (Interval(net).bounds, *crowns):
            low, high = bounds(x - eps, x + eps)
            out = (logits < low - 1e-9) | (logits > high + 1e-9)
            outside += int(out.any(2).sum())
        total += logits.shape[0] * logits.shape[1]
    found = {"part": "sound", "points": total, "outside": outside}
    print(f"  {found}", flush=True)
    return found


def recipes(folder: Path) -> list[dict[str, Any]]:
    """Nets trained by the certified recipe: what is proved of all test rows, bounds cheap first."""
    data = load("mnist", folder)
    test, found = data["test"], []
    for eps in (0.1, 0.3):
        net, seconds = trained(proved(eps), data)
        held = certified_accuracy(net, test.x, test.y, LpBall("linf", eps), "crown-ibp")
        with torch.inference_mode():
            clean = float((net(test.x).argmax(1) == test.y).float().mean())
        facts = {"eps": eps, "n": len(test), "clean": clean, "minutes": seconds / 60}
        found.append({"part": "recipe", **facts, "certified": float(held.float().mean())})
        print(f"  {found[-1]}", flush=True)
    return found


def bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """A published figure is reproduced only on as many rows as it was published for."""
    found = []
    for row in rows:
        if row["part"] == "known" and row["n"] == row["asked"]:
            name = (
                f"{row['net']}, eps {row['eps']:.4f}, {row['bounds']} against {row['published']:g}"
            )
            found.append(Bar(f"{name}: points", row["apart"], row["n"], None, "<=", row["within"]))
        if row["part"] == "sound":
            found.append(
                Bar("points outside their bounds", row["outside"], row["points"], None, "<=", 0)
            )
        if row["part"] == "recipe":
            asked = 0.97 if row["eps"] < 0.2 else 0.9
            name = f"MNIST, eps {row['eps']:g}: certified by the recipe's net"
            found.append(Bar(name, row["certified"], row["n"], None, ">=", asked))
            name = f"MNIST, eps {row['eps']:g}: minutes of training"
            found.append(Bar(name, row["minutes"], 1, None, "<=", 60))
    return found
