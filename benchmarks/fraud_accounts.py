"""Bank account fraud, EPFL's prices: XGBoost, its threshold at 5 % false positives, and money."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from buckler.assess.fraud import Exposure, measure
from buckler.attacks import Enumerate
from buckler.models.alerts import Alerting
from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Price, from_table
from buckler.threats.features.draft import read_table

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


def exposed(name: str, accounts: Accounts, model: Alerting, count: int, seed: int = 0) -> Exposure:
    """The cheapest way of `count` frauds of the test months, by enumeration up to $10.50."""
    frauds = accounts.test[accounts.y[accounts.test] == 1]
    chosen = frauds[torch.from_numpy(np.random.default_rng(seed).permutation(len(frauds))[:count])]
    x = accounts.x[chosen]
    jobs = accounts.spec["employment_status"].levels
    codes = x[:, accounts.spec.names.index("employment_status")].long().tolist()
    return measure(
        name, model, x, FeatureThreat(accounts.spec, BUDGETS[-1]), Enumerate(), weeks=_WEEKS,
        share=len(x) / len(frauds), segment=[str(jobs[code]) for code in codes], exact=True,
        seed=seed,
    )  # fmt: skip
