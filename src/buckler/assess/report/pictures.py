"""Inputs as pictures in a report: before, after, what was changed, what the guard saw."""

from typing import Any

import numpy as np

from buckler.assess.pictures import load_examples
from buckler.assess.report.facts import Evidence
from buckler.look import data_uri, difference_uri

Json = dict[str, Any]


def galleries(evidence: Evidence) -> list[Json]:
    """Those whose rows were kept; none for inputs that are no pictures."""
    if len(evidence.shape) != 3:
        return []
    assessment, bundle = evidence.output / "assessment", evidence.bundle / "evidence"
    sources = (
        ("One pixel", assessment / "one_pixel.npz"),
        ("The undefended classifier, fooled", assessment / "examples.npz"),
        ("What still gets past the guard", bundle / "examples.npz"),
        ("What the guard holds", bundle / "held.npz"),
    )
    found = []
    for title, path in sources:
        examples = load_examples(path)
        if examples is not None:
            pictures = [_picture(evidence, examples, i) for i in range(len(examples["y"]))]
            found.append({"title": title, "seen": "seen" in examples, "pictures": pictures})
    return found


def _picture(evidence: Evidence, examples: dict[str, np.ndarray], i: int) -> Json:
    names, before, after = evidence.class_names, examples["x"][i], examples["x_adv"][i]
    box = evidence.box
    largest = float(np.abs(after - before).max())
    return {
        "row": int(examples["row"][i]),
        "before": names[int(examples["before"][i])],
        "after": names[int(examples["after"][i])],
        "wrong": bool(examples["after"][i] != examples["y"][i]),
        "accepted": bool(examples["accepted"][i]) if "accepted" in examples else True,
        "times": 0 if largest == 0 else (box[1] - box[0]) / (2 * largest),
        "x": data_uri(before, box),
        "x_adv": data_uri(after, box),
        "delta": difference_uri(before, after),
        "seen": data_uri(examples["seen"][i], box) if "seen" in examples else "",
    }
