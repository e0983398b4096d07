"""100 trees of depth 6 on phishing URLs: how many rows are decided, how long it takes."""

import time
from typing import Any

import numpy as np
import torch

from benchmarks.fraud_harden import tall_trees
from benchmarks.fraud_url import Urls
from benchmarks.results_file import Bar
from buckler.attacks import PriceSearch
from buckler.attacks.rows import split_values
from buckler.certify import decide
from buckler.models import split_points
from buckler.threats.features import FeatureThreat
from buckler.threats.features.validate import validate

Row = dict[str, Any]
EPS = (0.005, 0.02, 0.05)


def certificate_rows(urls: Urls, quick: bool) -> tuple[list[Row], list[Bar]]:
    """Phishing rows that are caught, within L∞ of the ranges and the spec's rules."""
    model = tall_trees(urls)
    phishing = urls.test[urls.y[urls.test] == 1]
    caught = phishing[model(urls.x[phishing]).argmax(1) == 1][: 12 if quick else 100]
    x, y = urls.x[caught], urls.y[caught]
    values = split_values(urls.spec, split_points(model, urls.spec.width))
    rows = []
    for eps in EPS:
        threat = FeatureThreat(urls.spec, eps, "linf")
        seconds, said = [], []
        for row in range(len(x)):
            started = time.process_time()
            said.append(decide(model, x[row : row + 1], y[row : row + 1], threat))
            seconds.append(time.process_time() - started)
        x_adv = torch.cat([each.x_adv for each in said])
        certificates = [each.certificates[0] for each in said]
        proved = torch.tensor([each.label is not None for each in certificates])
        tried = PriceSearch(values=values)(model, x[proved], y[proved], threat)
        against = int((model(tried).argmax(1) != 1).sum()) if bool(proved.any()) else 0
        row_found = {
            "data": "url, trees",
            "eps": eps,
            "n": len(x),
            "certified": int(proved.sum()),
            "evadable": sum(each.evadable for each in certificates),
            "median_seconds": float(np.median(seconds)),
            "p95_seconds": float(np.quantile(seconds, 0.95)),
            "contradicted": against,
            "invalid": sum(bool(wrong) for wrong in validate(threat, x, x_adv)),
        }
        rows.append(row_found)
        print(row_found, flush=True)
    n = sum(row["n"] for row in rows)
    decided = sum(row["certified"] + row["evadable"] for row in rows) / n
    slowest = max(row["median_seconds"] for row in rows)
    wrong = sum(row["contradicted"] + row["invalid"] for row in rows)
    bars = [
        Bar("trees, 100 x 6: rows decided", decided, n, None, ">=", 0.99),
        Bar("trees, 100 x 6: median CPU seconds a row", slowest, n, None, "<", 2.0),
        Bar("trees, 100 x 6: certificates contradicted", float(wrong), n, None, "<=", 0.0),
    ]
    return rows, bars


def certificate_table(rows: list[Row]) -> str:
    lines = [
        "Phishing URLs, XGBoost, 100 trees of depth 6; each feature may move by eps of its range, "
        "rules kept. Seconds are of one CPU, with the reading of the trees.",
        "",
        "| eps | rows | certified | evadable | open | median s | p95 s | contradicted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        left = row["n"] - row["certified"] - row["evadable"]
        lines.append(
            f"| {row['eps']} | {row['n']} | {row['certified']} | {row['evadable']} | {left} | "
            f"{row['median_seconds']:.2f} | {row['p95_seconds']:.2f} | {row['contradicted']} |"
        )
    return "\n".join(lines)
