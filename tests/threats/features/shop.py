"""A small shop's table with one of everything, and rows of it."""

from dataclasses import replace

import torch
from torch import Tensor

from buckler import draws
from buckler.threats.features import Feature, FeatureSpec, Price, Rule

DEVICE = Price(change=1.0, to={"ios": 2.5}, pairs={("web", "android"): 0.25})
SPEC = FeatureSpec(
    features=(
        Feature("amount", "real", 0.0, 500.0, change="none"),
        Feature("age", "integer", 0, 9, price=Price(up=0.5, down=2.0)),
        Feature("mails", "integer", 0, 3, change="up", price=Price(change=0.25, up=0.1)),
        Feature("income", "ordinal", levels=(0.1, 0.5, 0.7), price=Price(up=3.0)),
        Feature("device", "category", levels=("web", "ios", "android"), onehot=True, price=DEVICE),
        Feature("paid", "category", levels=("no", "yes"), price=Price(to={"yes": 4.0})),
        Feature("share", "real", 0.0, 1.0, price=Price(up=1.0, down=1.0)),
        Feature("ratio", derived="mails / (1 + age)"),
    ),
    rules=(
        Rule("mails <= age", name="mails"),
        Rule("paid == 'yes'", given="device == 'ios' and income > 0.4"),
    ),
    gain="amount",
)


def rows(count: int, seed: int = 0, spec: FeatureSpec = SPEC) -> Tensor:
    """(count, width) rows that keep the rules."""
    u = draws.uniform(seed, torch.arange(8 * count), 0, (len(spec.features),)).double()
    raw = torch.empty_like(u)
    for index, feature in enumerate(spec.features):
        if feature.derived is not None:
            continue
        low, high = feature.ends
        raw[:, index] = low + (high - low) * u[:, index]
        if feature.levels:
            raw[:, index] = feature.values[(u[:, index] * len(feature.levels)).long()]
        elif feature.kind == "integer":
            raw[:, index] = (low + (high - low + 1) * u[:, index]).floor()
    raw = raw.float().double()
    raw[:, 3] = spec.features[3].values[spec.features[3].ranks(raw[:, 3])]
    raw[:, 7] = (raw[:, 2] / (1 + raw[:, 1])).float().double()
    columns = spec.columns(raw)
    kept = torch.stack([rule.holds(columns) for rule in spec.compiled]).all(0)
    return spec.encode(raw[kept][:count], like=torch.empty(0, dtype=torch.float32))


def without(*names: str) -> FeatureSpec:
    """The same with these features immutable."""
    features = tuple(
        replace(each, change="none") if each.name in names else each for each in SPEC.features
    )
    return replace(SPEC, features=features)
