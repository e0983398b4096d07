"""How easily classifiers of tables are evaded: python -m benchmarks.fraud --data-dir DIR."""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fraud_certify import certificate_rows, certificate_table
from benchmarks.fraud_harden import hardened_urls
from benchmarks.fraud_money import account_rows, account_table
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
    urls = load_urls(args.data_dir)
    parts = [
        (account_rows(args.data_dir, args.quick), account_table),
        (certificate_rows(urls, args.quick), certificate_table),
        (url_rows(urls, args.quick), url_table),
        (hardened_rows(urls, args.quick), url_table),
    ]
    text = "\n\n".join(table(rows) for (rows, _), table in parts)
    every = [row for (rows, _), _ in parts for row in rows]
    bars = [bar for (_, found), _ in parts for bar in found]
    path = write_results("fraud", command, every, bars, text, args.quick)
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


def hardened_rows(urls: Urls, quick: bool) -> tuple[list[Row], list[Bar]]:
    """One net trained on evasions, at two thresholds, under the whole suite; beside it what the
    gradient alone would have said."""
    phishing = urls.test[urls.y[urls.test] == 1][: 60 if quick else 1000]
    x, y = urls.x[phishing], urls.y[phishing]
    kept = Path("out/benchmarks/fraud")
    kept.mkdir(parents=True, exist_ok=True)
    rows, bars = [], []
    asked = ((0.92, 0.75), (0.89, 0.88))
    points = hardened_urls(urls, 8 if quick else 40, kept)
    for point, (clean, robust) in zip(points, asked, strict=True):
        for attacks in (tabular()[:1], tabular()):
            name = f"{point.name}: {', then '.join(each.name for each in attacks)}"
            row = _attacked(name, attacks, point.model, urls, x, y)
            rows.append({**row, "clean": point.clean})
        held = wilson(rows[-1]["held"], rows[-1]["n"])
        n, invalid = len(urls.test), float(rows[-1]["invalid"])
        bars += [
            Bar(f"URL, {point.name}: clean accuracy", point.clean, n, None, ">=", clean),
            Bar(
                f"URL, {point.name}: robust recall", held.value, held.n, (held.low, held.high),
                ">=", robust,
            ),
            Bar(f"URL, {point.name}: invalid rows", invalid, held.n, None, "<=", 0),
        ]  # fmt: skip
    return rows, bars


def _attacked(
    name: str, attacks: tuple[Attack, ...], net: Classifier, urls: Urls, x: Tensor, y: Tensor
) -> Row:
    """Phishing rows still caught after every attack; a row that fails the validator is no win."""
    started, counted = time.process_time(), Counted(net)
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
        "seconds": round(time.process_time() - started, 2),
        "invalid": invalid,
    }
    print(row, flush=True)
    return row


def url_table(rows: list[Row]) -> str:
    lines = [
        "URL phishing, L2 0.5 of the ranges; robust recall = phishing rows still caught / all of "
        "them. What the gradient alone leaves standing and the search does not is no robustness.",
        "",
        "| attack | clean accuracy | rows | robust recall | queries a row | gradients | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rate = wilson(row["held"], row["n"])
        lines.append(
            f"| {row['attack']} | {row['clean']:.3f} | {row['n']} "
            f"| {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}] "
            f"| {row['queries'] / row['n']:.0f} | {row['gradients'] / row['n']:.0f} | "
            f"{row['seconds']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
