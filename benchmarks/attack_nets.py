"""The nets that attacks are measured on: trained here once and kept, or published ones."""

import gzip
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from buckler import data as buckler_data
from buckler import draws
from buckler.attacks.perturb import perturb
from buckler.models.nets import digits_cnn
from buckler.threats import LpBall

CACHE = Path("out/attack-nets")


@dataclass(frozen=True)
class Data:
    """Pixels in [0, 1] and labels, for training and for tests."""

    x_fit: Tensor
    y_fit: Tensor
    x_test: Tensor
    y_test: Tensor


@dataclass(frozen=True)
class Recipe:
    """How a net is made; its hash names the file.

    eps: L∞ radius of the PGD it is trained against (7 steps of eps / 4), 0 for ordinary training.
    source: a published net's file in oracle-nets; then nothing is trained.
    known: (eps, robust accuracy under PGD, first rows it was measured on or 0 for all), published.
    """

    name: str
    data: str
    net: str
    eps: float = 0.0
    epochs: int = 0
    seed: int = 0
    rate: float = 2e-3
    steps: int = 7
    source: str = ""
    known: tuple[tuple[float, float, int], ...] = ()

    @property
    def key(self) -> str:
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:12]


DIGITS = (
    Recipe("digits", "digits", "digits", epochs=20),
    Recipe("digits, adversarially trained", "digits", "digits", eps=0.15, epochs=30),
)
TRAINED = (
    Recipe("fashion", "fashion-mnist", "conv_bn", epochs=2),
    Recipe("fashion, adversarially trained", "fashion-mnist", "conv_bn", eps=0.05, epochs=4),
    Recipe("cifar", "cifar10-20k", "resnet", epochs=6),
    Recipe("cifar, adversarially trained", "cifar10-20k", "resnet", eps=4 / 255, epochs=6),
)
PUBLISHED = (
    Recipe("kw_mnist", "mnist", "kw", source="kw_mnist", known=((0.1, 0.958, 500),)),
    Recipe("ibp_mnist_small", "mnist", "ibp", source="ibp_mnist_small", known=((0.3, 0.924, 0),)),
    Recipe(
        "cifar_resnet2b",
        "cifar10-20k",
        "resnet2b",
        source="cifar_resnet2b",
        known=((2 / 255, 0.5482, 0), (1 / 255, 0.6224, 0)),
    ),
)


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut, ReLU after the sum."""

    def __init__(self, into: int, out: int, stride: int, norm: bool) -> None:
        super().__init__()
        bias = not norm
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(out) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(out) if norm else nn.Identity()
        self.shortcut = nn.Sequential()
        if stride != 1 or into != out:
            parts: list[nn.Module] = [nn.Conv2d(into, out, 1, stride, bias=bias)]
            self.shortcut = nn.Sequential(*parts, *([nn.BatchNorm2d(out)] if norm else []))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        out: Tensor = (y + self.shortcut(x)).relu()
        return out


class ResNet(nn.Module):
    """A stem that halves the image, two blocks, a linear head or two."""

    def __init__(self, widths: tuple[int, int, int], hidden: int, norm: bool, stride: int) -> None:
        super().__init__()
        a, b, c = widths
        self.conv1 = nn.Conv2d(3, a, 3, 2, 1, bias=not norm)
        self.bn1 = nn.BatchNorm2d(a) if norm else nn.Identity()
        self.layer1 = nn.Sequential(Block(a, b, 2, norm), Block(b, c, stride, norm))
        side = 8 // stride
        self.linear1 = nn.Linear(c * side * side, hidden)
        self.linear2 = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer1(self.bn1(self.conv1(x)).relu())
        logits: Tensor = self.linear2(self.linear1(y.flatten(1)).relu())
        return logits


class Normalised(nn.Module):
    """(x − m) / d, with m and d (1, c, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.d = nn.Parameter(torch.ones(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.m) / self.d


def _plain(channels: tuple[int, int], hidden: int) -> nn.Module:
    a, b = channels
    convolutions = (nn.Conv2d(1, a, 4, 2, 1), nn.ReLU(), nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())
    head = (nn.Linear(b * 49, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    return nn.Sequential(*convolutions, nn.Flatten(), *head)


def _conv_bn() -> nn.Module:
    def step(into: int, out: int, stride: int) -> Iterator[nn.Module]:
        yield from (nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())

    body = [*step(1, 16, 2), *step(16, 32, 2), *step(32, 32, 1)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10))


_NETS: dict[str, Callable[[], nn.Module]] = {
    "digits": digits_cnn,
    "conv_bn": _conv_bn,
    "resnet": lambda: nn.Sequential(Normalised(), ResNet((16, 32, 32), 64, True, 1)),
    "kw": lambda: _plain((16, 32), 100),
    "ibp": lambda: _plain((8, 16), 256),
    "resnet2b": lambda: nn.Sequential(Normalised(), ResNet((8, 16, 16), 100, False, 1)),
}


def load_data(name: str, folder: Path | None) -> Data:
    """digits (ships with scikit-learn), or a set of the data folder."""
    if name == "digits":
        digits = buckler_data.load("digits")
        fit, test = digits["fit"], digits["test"]
        return Data(fit.x, fit.y, test.x, test.y)
    if folder is None:
        raise SystemExit(f"{name} needs --data-dir DIR, the folder that holds {name}/")
    at = folder / name
    if name == "cifar10-20k":
        with np.load(at / "cifar10-20k.npz", allow_pickle=False) as arrays:
            parts = [arrays[key] for key in ("x_train", "y_train", "x_test", "y_test")]
    else:
        parts = [_idx(at / f"{part}-ubyte.gz") for part in _IDX]
    x_fit, y_fit, x_test, y_test = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    return Data(_pixels(x_fit), y_fit.long(), _pixels(x_test), y_test.long())


_IDX = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def _idx(path: Path) -> np.ndarray:
    raw = gzip.decompress(path.read_bytes())
    dimensions = raw[3]
    shape = np.frombuffer(raw, ">i4", dimensions, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()


def _pixels(x: Tensor) -> Tensor:
    return (x if x.ndim == 4 else x[:, None]).float() / 255


def load_net(recipe: Recipe, data: Data, folder: Path | None) -> nn.Module:
    """The net of a recipe, in eval mode, its parameters frozen: the choice that favours peers
    whose .backward() would also fill parameter gradients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = _NETS[recipe.net]()
        if recipe.source:
            assert folder is not None
            net.load_state_dict(load_file(folder / "oracle-nets" / f"{recipe.source}.safetensors"))
        else:
            path = (
                CACHE
                / f"{recipe.name.replace(', ', '-').replace(' ', '-')}-{recipe.key}.safetensors"
            )
            if path.exists():
                net.load_state_dict(load_file(path))
            else:
                _train(net, recipe, data)
                path.parent.mkdir(parents=True, exist_ok=True)
                save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path)
    return net.eval().requires_grad_(False)


def _train(net: nn.Module, recipe: Recipe, data: Data) -> None:
    """Adam with one cycle; against PGD where the recipe has an eps. Attacked in eval mode."""
    batch, n = 128, len(data.x_fit)
    rounds = -(-n // batch)
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2 * recipe.rate, total_steps=rounds * recipe.epochs
    )
    started = time.perf_counter()
    for epoch in range(recipe.epochs):
        order = draws.permutation(draws.derive(recipe.seed, "order"), epoch, n)
        total = 0.0
        for rows in order.split(batch):
            x, y = data.x_fit[rows], data.y_fit[rows]
            if recipe.eps:
                seed = draws.derive(recipe.seed, "attack", epoch)
                threat = LpBall("linf", recipe.eps)
                size = 2.5 / recipe.steps
                net.eval()
                x = perturb(
                    net, x, y, threat, steps=recipe.steps, step_size=size, seed=seed, rows=rows
                )
            net.train()
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        spent = time.perf_counter() - started
        print(
            f"  {recipe.name}: epoch {epoch + 1} of {recipe.epochs}, loss {total / n:.3f}, "
            f"{spent:.0f} s",
            flush=True,
        )


def right_rows(net: nn.Module, data: Data, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` test rows drawn at random by seed among those the net answers rightly."""
    with torch.no_grad():
        right = torch.cat([net(part).argmax(1) for part in data.x_test.split(500)]) == data.y_test
    rows = right.nonzero()[:, 0]
    rows = rows[draws.permutation(seed, 0, len(rows))[:count]]
    return data.x_test[rows], data.y_test[rows]
