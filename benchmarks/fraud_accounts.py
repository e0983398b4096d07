"""Bank account fraud, EPFL's prices: XGBoost, its threshold at 5 % false positives, and money."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buckler.attacks import Enumerate
from buckler.models import Counted
from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Price, from_table
from buckler.threats.features.draft import read_table
from buckler.threats.features.validate import validate

FPR = 0.05
BUDGETS = (0.0, 0.1, 0.5, 1.0, 1.5, 5.0, 10.5)
_WEEKS = 61 / 7  # months 6 and 7
_BINS = 10  # of zip_count_4w
_DIME, _HARD = Price(change=0.1), Price(up=10.0, down=0.1)


@dataclass(frozen=True)
class Accounts:
    """x (n, 14), y (n,) 1 = fraud; months 0 to 5 train, 6 and 7 test."""

    spec: FeatureSpec
    x: Tensor
    y: Tensor
    train: Tensor
    test: Tensor


def load_accounts(folder: Path) -> Accounts:
    table = read_table(folder / "bank-account-fraud" / "reduced_balanced.csv")
    month, y = table.pop("month"), torch.from_numpy(table.pop("fraud_bool").astype(np.int64))
    train = torch.from_numpy(np.flatnonzero(month <= 5))
    edges = np.quantile(table["zip_count_4w"][month <= 5], np.linspace(0, 1, _BINS + 1)[1:-1])
    table["zip_count_4w"] = np.digitize(table["zip_count_4w"], edges).astype(float)
    spec = account_spec(table)
    test = torch.from_numpy(np.flatnonzero(month > 5))
    return Accounts(spec, from_table(spec, table), y, train, test)


def account_spec(table: dict[str, np.ndarray]) -> FeatureSpec:
    """Prices of Kireev et al. 2023 (their loaders); what the bank knows of the person is fixed."""

    def levels(name: str) -> tuple[str, ...]:
        return tuple(sorted({str(value) for value in table[name]}))

    mails = table["device_distinct_emails_8w"]
    priced = {
        "foreign_request": Feature("foreign_request", "integer", 0, 1, price=_DIME),
        "keep_alive_session": Feature("keep_alive_session", "integer", 0, 1, price=_DIME),
        "source": Feature("source", "category", levels=levels("source"), price=_DIME),
        "device_os": Feature("device_os", "category", levels=levels("device_os"), price=_DIME),
        "zip_count_4w": Feature(
            "zip_count_4w", "integer", 0, _BINS - 1, price=Price(change=1.0)
        ),
        "email_is_free": Feature(
            "email_is_free", "integer", 0, 1, price=Price(up=0.1, down=10.0)
        ),
        "phone_home_valid": Feature("phone_home_valid", "integer", 0, 1, price=_HARD),
        "phone_mobile_valid": Feature("phone_mobile_valid", "integer", 0, 1, price=_HARD),
        "device_distinct_emails_8w": Feature(
            "device_distinct_emails_8w", "integer", mails.min(), mails.max(), change="up",
            price=Price(up=0.1),
        ),
    }  # fmt: skip
    features = []
    for name, column in table.items():
        if name in priced:
            features.append(priced[name])
        elif column.dtype.kind == "f":
            features.append(Feature(name, "real", change="none"))
        else:
            features.append(Feature(name, "category", levels=levels(name), change="none"))
    return FeatureSpec(tuple(features), gain="proposed_credit_limit")


class Alerting:
    """A booster's margin over the threshold as two logits: class 1 is an alert."""

    def __init__(self, booster: Any, threshold: float = 0.0) -> None:
        self.booster, self.threshold = booster, threshold

    def __call__(self, x: Tensor) -> Tensor:
        over = torch.from_numpy(self.margin(x)) - self.threshold
        return torch.stack([-over, over], 1).to(x)

    def margin(self, x: Tensor) -> np.ndarray:
        found = self.booster.inplace_predict(x.numpy(), predict_type="margin")
        return np.asarray(found, dtype=np.float32)


def train_xgboost(accounts: Accounts, seed: int = 0) -> Alerting:
    """200 trees of depth 5; alerts on 5 % of the test months' good customers."""
    import xgboost

    rows = xgboost.DMatrix(accounts.x[accounts.train].numpy(), accounts.y[accounts.train].numpy())
    settings = {"max_depth": 5, "eta": 0.1, "objective": "binary:logistic", "nthread": 1}
    booster = xgboost.train({**settings, "seed": seed}, rows, num_boost_round=200)
    booster.set_param({"nthread": 1})
    model = Alerting(booster)
    good = accounts.test[accounts.y[accounts.test] == 0]
    model.threshold = float(np.quantile(model.margin(accounts.x[good]), 1 - FPR))
    return model


@dataclass(frozen=True)
class Evasion:
    """The frauds of the test months and the least each of them costs to be let through, exactly.

    price: (n,) money; 0 for those let through as they are, inf where nothing within $10.50 helps.
    share: of the month's frauds that were attacked (money is scaled up by it).
    """

    price: np.ndarray
    gain: np.ndarray
    share: float
    queries: int
    invalid: int

    def recall(self, budget: float) -> int:
        """How many are still caught."""
        return int((self.price > budget + 1e-6).sum())

    def money(self, budget: float, draws: int = 1000) -> tuple[float, float, float]:
        """Evaded a week, with a 95 % bootstrap interval over the frauds."""
        lost = np.where(self.price <= budget + 1e-6, self.gain, 0.0)
        random = np.random.default_rng(0)
        sums = np.array([random.choice(lost, len(lost)).sum() for _ in range(draws)])
        low, high = np.quantile(sums, [0.025, 0.975]) / self.share / _WEEKS
        return float(lost.sum() / self.share / _WEEKS), float(low), float(high)

    def profit(self, budget: float) -> float:
        """What the attacker keeps of each fraud, on average, spending at most `budget`."""
        won = self.price <= budget + 1e-6
        return float(np.where(won, self.gain - np.where(won, self.price, 0.0), 0.0).mean())


def evade(accounts: Accounts, model: Alerting, count: int, seed: int = 0) -> Evasion:
    """The cheapest way of `count` frauds of the test months, by enumeration."""
    frauds = accounts.test[accounts.y[accounts.test] == 1]
    chosen = frauds[torch.from_numpy(np.random.default_rng(seed).permutation(len(frauds))[:count])]
    x, y = accounts.x[chosen], accounts.y[chosen]
    threat = FeatureThreat(accounts.spec, BUDGETS[-1])
    counted = Counted(model)
    x_adv = Enumerate()(counted, x, y, threat)
    won = model(x_adv).argmax(1) == 0
    price = torch.where(won, threat.distance(x, x_adv), math.inf).numpy()
    gain = x[:, accounts.spec.names.index("proposed_credit_limit")].numpy()
    invalid = sum(bool(wrong) for wrong in validate(threat, x, x_adv))
    return Evasion(price, gain, len(x) / len(frauds), counted.forwards, invalid)
