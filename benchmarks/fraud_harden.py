"""Hardened nets and boosters for the two tables of benchmarks.fraud."""

from dataclasses import dataclass
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
    return [
        _at(urls, "hardened", net, balanced(net, urls.x[select], urls.y[select])),
        _at(urls, "hardened, lower threshold", net, sturdy(net, urls.x[select], urls.y[select])),
    ]


def _at(urls: Urls, name: str, net: nn.Module, threshold: float) -> Point:
    model = Alerting(net, threshold)
    right = model(urls.x[urls.test]).argmax(1) == urls.y[urls.test]
    return Point(name, model, float(right.float().mean()))


def balanced(model: Classifier, x: Tensor, y: Tensor) -> float:
    """The lowest threshold within half a point of the best accuracy on these rows."""
    return _lowest(model, x, y, 0.005)


def sturdy(model: Classifier, x: Tensor, y: Tensor) -> float:
    """The lowest threshold within 2.5 points of it."""
    return _lowest(model, x, y, 0.025)


def _lowest(model: Classifier, x: Tensor, y: Tensor, loss: float) -> float:
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
}
LIGHT = {
    "LightGBM, closed": BoostingRecipe("lightgbm", rounds=200),
}


def hardened_accounts(accounts: Accounts, recipe: BoostingRecipe) -> Alerting:
    """Trained on months 0 to 5; alerts on 5 % of the later months' good customers."""
    threat = FeatureThreat(accounts.spec, MONEY)
    train = accounts.train
    model = harden_boosting(accounts.x[train], accounts.y[train], threat, recipe)
    good = accounts.test[accounts.y[accounts.test] == 0]
    return at_capacity(model, accounts.x[good], FPR)
