"""How easily classifiers of tables are evaded: python -m benchmarks.fraud --data-dir DIR."""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fraud_accounts import BUDGETS, FPR, evade, load_accounts, train_xgboost
from benchmarks.fraud_url import Urls, load_urls, train_mlp
from benchmarks.results_file import Bar, write_results
from buckler.attacks import CAPGD, MOEVA, PriceSearch
from buckler.attacks.suites import tabular
from buckler.models import Counted
from buckler.protocols import Attack, Classifier
from buckler.stats import wilson
from buckler.threats.features.inspect import inspect
from buckler.threats.features.validate import validate

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows, a short genetic search")
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    args = parser.parse_args()
    command = "python -m benchmarks.fraud --data-dir DIR" + (" --quick" if args.quick else "")
    urls, url_bars = url_rows(load_urls(args.data_dir), args.quick)
    accounts, account_bars = account_rows(args.data_dir, args.quick)
    text = f"{url_table(urls)}\n\n{account_table(accounts)}"
    bars = [*url_bars, *account_bars]
    path = write_results("fraud", command, [*urls, *accounts], bars, text, args.quick)
    print(f"wrote {path}")


def url_rows(urls: Urls, quick: bool) -> tuple[list[Row], list[Bar]]:
    """Each attack alone and one after the other on the ordinary net."""
    for finding in inspect(urls.spec, urls.x):
        print(f"url: {finding.kind}: {finding.where}: {finding.text}", flush=True)
    net = train_mlp(urls, epochs=12 if quick else 30)
    right = net(urls.x[urls.test]).argmax(1) == urls.y[urls.test]
    clean = wilson(int(right.sum()), len(right))
    print(f"url: clean accuracy {clean.value:.3f}", flush=True)
    phishing = urls.test[urls.y[urls.test] == 1][: 150 if quick else 1000]
    x, y = urls.x[phishing], urls.y[phishing]
    few = slice(0, 10 if quick else 50)
    genetic = MOEVA(40, 20) if quick else MOEVA()
    rows = [
        _attacked(name, attacks, net, urls, x[part], y[part])
        for name, attacks, part in (
            ("CAPGD", (CAPGD(),), slice(None)),
            ("PriceSearch", (PriceSearch(),), slice(None)),
            ("suite: CAPGD, then PriceSearch", tabular(), slice(None)),
            ("PriceSearch, few rows", (PriceSearch(),), few),
            (f"MOEVA {genetic.population} x {genetic.generations}, few rows", (genetic,), few),
        )
    ]
    for row in rows:
        row["clean"] = clean.value
    suite, search, moeva = rows[2], rows[3], rows[4]
    held = wilson(suite["held"], suite["n"])
    total = sum(row["n"] for row in rows)
    valid = 1 - sum(row["invalid"] for row in rows) / total
    fewer = moeva["queries"] / max(1, search["queries"])
    bars = [
        Bar("URL, MLP: robust recall", held.value, held.n, (held.low, held.high), "<=", 0.11),
        Bar("URL: valid rows of all returned", valid, total, None, ">=", 1.0),
        Bar("URL: MOEVA's queries / PriceSearch's", fewer, moeva["n"], None, ">=", 10.0),
        Bar(
            "URL: recall left by PriceSearch - by MOEVA (same rows)",
            (search["held"] - moeva["held"]) / moeva["n"], moeva["n"], None, "<=", 0.0,
        ),
    ]  # fmt: skip
    return rows, bars


def _attacked(
    name: str, attacks: tuple[Attack, ...], net: Classifier, urls: Urls, x: Tensor, y: Tensor
) -> Row:
    """Phishing rows still caught after every attack; a row that fails the validator is no win."""
    started, counted = time.perf_counter(), Counted(net)
    held, invalid = net(x).argmax(1) == y, 0
    for attack in attacks:
        left = held.nonzero()[:, 0]
        x_adv = attack(counted, x[left], y[left], urls.threat, rows=left)
        said = validate(urls.threat, x[left], x_adv)
        wrong = torch.tensor([bool(each) for each in said], dtype=torch.bool)
        won = net(x_adv).argmax(1) != y[left]
        invalid += int(wrong.sum())
        held[left[won & ~wrong]] = False
    row = {
        "data": "url",
        "attack": name,
        "n": len(x),
        "held": int(held.sum()),
        "queries": counted.forwards,
        "gradients": counted.backwards,
        "seconds": round(time.perf_counter() - started, 2),
        "invalid": invalid,
    }
    print(row, flush=True)
    return row


def account_rows(folder: Path, quick: bool) -> tuple[list[Row], list[Bar]]:
    """The undefended booster's recall and money at each budget, exact."""
    from sklearn.metrics import roc_auc_score

    accounts = load_accounts(folder)
    model = train_xgboost(accounts)
    test = accounts.test
    auc = float(roc_auc_score(accounts.y[test].numpy(), model.margin(accounts.x[test])))
    started = time.perf_counter()
    found = evade(accounts, model, 60 if quick else 600)
    seconds = time.perf_counter() - started
    n, rows = len(found.price), []
    for budget in BUDGETS:
        recall, money = wilson(found.recall(budget), n), found.money(budget)
        rows.append(
            {
                "data": "accounts",
                "model": "XGBoost 200 x 5, undefended",
                "auc": auc,
                "budget": budget,
                "n": n,
                "recall": recall.value,
                "recall_interval": (recall.low, recall.high),
                "evaded_a_week": money[0],
                "evaded_interval": money[1:],
                "attacker_keeps": found.profit(budget),
                "queries": found.queries,
                "seconds": round(seconds, 2),
            }
        )
        print(rows[-1], flush=True)
    at = wilson(found.recall(1.5), n)
    bars = [
        Bar("accounts: invalid rows", float(found.invalid), n, None, "<=", 0.0),
        Bar("accounts, XGBoost: recall at $1.50", at.value, n, (at.low, at.high), ">=", 0.20),
    ]
    return rows, bars


def url_table(rows: list[Row]) -> str:
    lines = [
        f"URL phishing, L2 0.5 of the ranges, an undefended net (clean accuracy "
        f"{rows[0]['clean']:.3f}); robust recall = phishing rows still caught / all of them.",
        "",
        "| attack | rows | robust recall | queries a row | gradients a row | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        rate = wilson(row["held"], row["n"])
        lines.append(
            f"| {row['attack']} | {row['n']} | {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}] "
            f"| {row['queries'] / row['n']:.0f} | {row['gradients'] / row['n']:.0f} | "
            f"{row['seconds']} |"
        )
    return "\n".join(lines)


def account_table(rows: list[Row]) -> str:
    first = rows[0]
    lines = [
        f"Bank account fraud, {first['model']} (AUC {first['auc']:.3f}), alerts at {FPR:.0%} false "
        f"positives; each of {first['n']} frauds by its cheapest way, exactly, "
        f"{first['queries'] / first['n']:.0f} queries a row.",
        "",
        "| attacker's budget | recall | evaded a week | the attacker keeps a fraud |",
        "|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["recall_interval"]
        least, most = row["evaded_interval"]
        lines.append(
            f"| ${row['budget']:.2f} | {row['recall']:.3f} [{low:.3f}, {high:.3f}] | "
            f"${row['evaded_a_week']:,.0f} [{least:,.0f}, {most:,.0f}] | "
            f"${row['attacker_keeps']:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
