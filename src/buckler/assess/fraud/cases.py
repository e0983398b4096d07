"""Cases for analysts: each alert with what speaks for it, as a CSV file any spreadsheet opens."""

import csv
import io
from pathlib import Path

import torch
from torch import Tensor

from buckler import files
from buckler.models.alerts import Alerting
from buckler.threats.features import FeatureSpec, FeatureThreat, to_table

_REASONS = 3


def reason_codes(
    spec: FeatureSpec, model: Alerting, x: Tensor, usual: Tensor
) -> list[tuple[str, ...]]:
    """For each row the columns that speak most for an alert, the strongest first: those that lower
    the score most where they are set to the usual value. What speaks against it is not told.

    Args:
        usual: (width,) the values of an unremarkable row, as good customers' medians.
    """
    score = model.score(x)
    drops = []
    for start, feature in zip(spec.starts, spec.features, strict=True):
        part = slice(start, start + feature.wide)
        changed = x.clone()
        changed[:, part] = usual[part]
        drops.append(score - model.score(changed))
    gains = torch.stack(drops, 1)
    top = gains.argsort(dim=1, descending=True, stable=True)[:, :_REASONS]
    return [
        tuple(spec.names[at] for at in row.tolist() if gains[number, at] > 0)
        for number, row in enumerate(top)
    ]


def write_cases(
    path: Path, spec: FeatureSpec, model: Alerting, x: Tensor, threat: FeatureThreat
) -> Path:
    """The alerts among x (n, width), the highest score first: row, score over the threshold, reason
    codes, the money at stake, and the columns that a fraudster pays least to change marked by the
    spec's words (change), then every value."""
    alerts = (model(x).argmax(1) == 1).nonzero()[:, 0]
    score = model.score(x[alerts]) - model.threshold
    usual = x.median(0).values
    codes = reason_codes(spec, model, x[alerts], usual)
    table = to_table(spec, spec.decode(x[alerts]))
    free = {spec.names[at] for at, way in enumerate(threat.reaches) if way == "both"}
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["row", "over_threshold", "reasons", "cheap_to_change", "at_stake", *table])
    for place in score.argsort(dim=0, descending=True, stable=True).tolist():
        reasons = codes[place]
        stake = "" if spec.gain is None else f"{float(table[spec.gain][place]):.2f}"
        writer.writerow(
            [
                int(alerts[place]),
                f"{float(score[place]):.3f}",
                "; ".join(reasons),
                "; ".join(name for name in reasons if name in free),
                stake,
                *(_safe(column[place].item()) for column in table.values()),
            ]
        )
    files.write_text(path, stream.getvalue())
    return path


def _safe(value: object) -> object:
    """A text that a spreadsheet would run as a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value
