"""URL phishing under TabularBench's threat: 63 features, L2 0.5 of their ranges, its 14 rules."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from buckler import draws
from buckler.errors import DataError
from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Rule, from_table
from buckler.threats.features.draft import read_table

EPS = 0.5
_COUNTED = (
    *("nb_dots", "nb_hyphens", "nb_at", "nb_qm", "nb_and", "nb_or", "nb_eq", "nb_underscore"),
    *("nb_tilde", "nb_percent", "nb_slash", "nb_star", "nb_colon", "nb_comma", "nb_semicolumn"),
)
RULES = (  # as the authors meant them: their code says 0 <= a where 0 < a was meant
    Rule("length_hostname <= length_url", name="g1"),
    Rule(" + ".join(_COUNTED) + " + 3 * nb_space <= length_url", name="g2"),
    Rule("nb_dots > 0", given="nb_com > 0", name="g3"),
    Rule("nb_slash > 0", given="http_in_path > 0", name="g4"),
    Rule("3 * nb_www + 4 * nb_com + 2 * http_in_path <= length_url", name="g5"),
    Rule("ratio_digits_url > 0", given="nb_space > 0", name="g6"),
    Rule("ratio_digits_url > 0", given="ip > 0", name="g8"),
    Rule("ratio_digits_url > 0", given="port > 0", name="g10"),
    Rule("ratio_digits_host > 0", given="abnormal_subdomain > 0", name="g11"),
    Rule("nb_external_redirection <= nb_redirection", name="g12"),
    Rule("3 * nb_www <= length_url + 1", name="g13"),
    Rule("4 * nb_com <= length_url + 1", name="g14"),
    Rule("4 * ip <= length_url + 1", name="g15"),
    Rule("2 * http_in_path <= length_url + 1", name="g16"),
)


@dataclass(frozen=True)
class Urls:
    """x (n, 63), y (n,) 1 = phishing; a quarter is kept for the test, drawn by seed."""

    spec: FeatureSpec
    x: Tensor
    y: Tensor
    train: Tensor
    test: Tensor

    @property
    def threat(self) -> FeatureThreat:
        return FeatureThreat(self.spec, EPS, "l2")


def load_urls(folder: Path, seed: int = 0) -> Urls:
    about = read_table(folder / "url-phishing" / "features.csv")
    table = read_table(folder / "url-phishing" / "dataset_B_05_2020.csv")
    if set(about["mutable"].tolist()) != {"True"}:
        raise DataError("features.csv must say that every feature is mutable, as TabularBench does")
    spec = url_spec(about)
    x = from_table(spec, {name: table[name] for name in spec.names})
    y = torch.from_numpy((table["status"] == "phishing").astype(np.int64))
    order = draws.permutation(seed, 0, len(x))
    cut = len(x) // 4
    return Urls(spec, x, y, order[cut:], order[:cut])


def url_spec(about: dict[str, np.ndarray]) -> FeatureSpec:
    features = []
    rows = zip(about["feature"], about["type"], about["min"], about["max"], strict=True)
    for name, kind, low, high in rows:
        change = "none" if low == high else "any"
        features.append(
            Feature(
                str(name),
                "integer" if kind == "int" else "real",
                float(low),
                float(high),
                change=change,  # type: ignore[arg-type]
            )
        )
    return FeatureSpec(tuple(features), RULES)


def train_mlp(urls: Urls, epochs: int = 30, seed: int = 0) -> nn.Module:
    """An ordinary net, 63-128-128-2, behind the features' min-max scaling."""
    net = url_net(urls, 128, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        for epoch in range(epochs):
            order = urls.train[draws.permutation(seed, epoch + 1, len(urls.train))]
            for batch in order.split(256):
                loss = nn.functional.cross_entropy(net(urls.x[batch]), urls.y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
    return net.eval().requires_grad_(False)


def url_net(urls: Urls, width: int, seed: int = 0) -> nn.Module:
    """Untrained, 63-width-width-2, behind the features' min-max scaling."""
    low = torch.tensor([each.ends[0] for each in urls.spec.features])
    wide = torch.tensor([(each.ends[1] - each.ends[0]) or 1.0 for each in urls.spec.features])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            _Scaled(low, wide), nn.Linear(63, width), nn.ReLU(), nn.Linear(width, width),
            nn.ReLU(), nn.Linear(width, 2),
        )  # fmt: skip


class _Scaled(nn.Module):
    """(x - low) / wide."""

    def __init__(self, low: Tensor, wide: Tensor) -> None:
        super().__init__()
        self.low = nn.Parameter(low, requires_grad=False)
        self.wide = nn.Parameter(wide, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = (x - self.low) / self.wide
        return scaled
