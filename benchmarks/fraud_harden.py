"""Hardened nets and boosters for the two tables of benchmarks.fraud."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.fraud_accounts import FPR, Accounts
from benchmarks.fraud_url import Urls, url_net
from buckler import draws
from buckler.harden import (
    BoostingRecipe,
    Evaded,
    EvadedValidation,
    Recipe,
    harden,
    harden_boosting,
)
from buckler.harden.boosting import Booster
from buckler.models.alerts import Alerting, at_capacity
from buckler.protocols import Classifier
from buckler.threats.features import FeatureThreat

MONEY = 1.5
_SELECT = 0.15  # of the training rows choose checkpoints and thresholds


@dataclass(frozen=True)
class Point:
    """A hardened net at one threshold."""

    name: str
    model: Alerting
    clean: float


def hardened_urls(urls: Urls, epochs: int, folder: Path) -> list[Point]:
    """One net trained on evaded phishing rows, at two thresholds chosen on rows kept apart."""
    cut = int(_SELECT * len(urls.train))
    order = urls.train[draws.permutation(7, 0, len(urls.train))]
    select, fit = order[:cut], order[cut:]
    recipe = Recipe(
        "evaded", Evaded(threat=urls.threat), epochs, batch_size=256, warmup=0.3,
        validate_every=max(1, epochs // 10),
    )  # fmt: skip
    validate = EvadedValidation(urls.x[select], urls.y[select], urls.threat)
    net = harden(
        url_net(urls, 256), urls.x[fit], urls.y[fit], recipe, validate,
        checkpoint=folder / "evaded.safetensors",
    ).model  # fmt: skip
    x, y = urls.x[select], urls.y[select]
    return [
        _at(urls, "hardened", net, _lowest(net, x, y, 0.01)),
        _at(urls, "hardened, lower threshold", net, _lowest(net, x, y, 0.035)),
    ]


def _at(urls: Urls, name: str, net: nn.Module, threshold: float) -> Point:
    model = Alerting(net, threshold)
    right = model(urls.x[urls.test]).argmax(1) == urls.y[urls.test]
    return Point(name, model, float(right.float().mean()))


def _lowest(model: Classifier, x: Tensor, y: Tensor, loss: float) -> float:
    """The lowest threshold whose accuracy on these rows is within `loss` of the best."""
    scores = Alerting(model).score(x)
    levels = torch.linspace(-8, 8, 321)
    right = ((scores > levels[:, None]).long() == y).float().mean(1)
    return float(levels[int((right >= right.max() - loss).nonzero()[0, 0])])


RECIPES = {
    "ordinary": BoostingRecipe(rounds=200, depth=5, open_rounds=200, monotone=False),
    "closed: nothing the attacker moves for $1.50": BoostingRecipe(rounds=200),
    "closed, then 2 open rounds": BoostingRecipe(rounds=202, open_rounds=2),
    "closed, then 4 open rounds": BoostingRecipe(rounds=204, open_rounds=4),
    "retrained on evasions, 3 times": BoostingRecipe(
        rounds=200, open_rounds=200, retrains=3, attacked=400
    ),
    "LightGBM, closed": BoostingRecipe("lightgbm", rounds=200),
}


def hardened_accounts(accounts: Accounts, recipe: BoostingRecipe) -> Alerting:
    """Trained on months 0 to 5; alerts on 5 % of the later months' good customers."""
    threat = FeatureThreat(accounts.spec, MONEY)
    train = accounts.train
    model = harden_boosting(accounts.x[train], accounts.y[train], threat, recipe)
    good = accounts.test[accounts.y[accounts.test] == 0]
    return at_capacity(model, accounts.x[good], FPR)


def tall_trees(urls: Urls) -> Booster:
    """100 trees of depth 6 on phishing URLs, as they come."""
    threat, recipe = urls.threat, BoostingRecipe(rounds=100, depth=6, rate=0.3, open_rounds=100)
    return harden_boosting(
        urls.x[urls.train], urls.y[urls.train], threat, replace(recipe, monotone=False)
    )
