"""SMS spam: which texts keep their answer whatever two words are replaced by."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.results_file import Bar
from buckler import data, draws
from buckler.certify import certify_words
from buckler.certify.words import masked
from buckler.harden import TextRecipe, harden_texts
from buckler.stats import wilson
from buckler.text.codes import decode
from buckler.threats import TextEdits

KEEP = 0.2
_COPIES = 3


def sms_rows(folder: Path, quick: bool) -> tuple[list[dict[str, Any]], list[Bar]]:
    """Certified against any 2 replaced words, all texts and each class."""
    lines = (folder / "sms-spam" / "SMSSpamCollection").read_text("utf-8").splitlines()
    pairs = [line.split("\t", 1) for line in lines]
    labels = [int(label == "spam") for label, _ in pairs]
    sms = data.of_texts("sms", [text for _, text in pairs], labels, ("ham", "spam"), length=1000)
    fit, test = sms["fit"], sms["test"]
    texts = decode(fit.x)
    # The vote sees a fifth of the words: it is trained on that.
    seen = [
        masked(text, KEEP, draws.derive(0, copy, row))
        for copy in range(1 if quick else _COPIES)
        for row, text in enumerate(texts)
    ]
    y = fit.y.repeat(1 if quick else _COPIES)
    net = harden_texts(seen, y, TextRecipe(TextEdits(1, ("typo",)), rounds=0, fit=3.0))

    def answer(parts: list[str]) -> Tensor:
        with torch.no_grad():
            return net.of_grams(*net.grams([net.sees(part) for part in parts]))

    x, y, _ = test.sample(40 if quick else 400, 0)
    found = certify_words(answer, decode(x), words=2, keep=KEEP, n=300 if quick else 1000)
    right = torch.tensor([each.label for each in found if each.label is not None])
    sure = torch.tensor([each.label is not None for each in found])
    true = sure.clone()
    true[sure] = right == y[sure]
    rows = []
    for name, part in (("all", y >= 0), ("ham", y == 0), ("spam", y == 1)):
        certified, correct = (
            wilson(int(each[part].sum()), int(part.sum())) for each in (sure, true)
        )
        rows.append({"data": "SMS", "system": f"vote over masks, {name}", "attack": "any 2 words",
                     "n": certified.n, "certified": certified.value,
                     "certified_right": correct.value,
                     "interval": (correct.low, correct.high)})  # fmt: skip
        print(rows[-1], flush=True)
    each = rows[0]
    bars = [
        Bar("SMS: texts certified, and right, against any 2 words", each["certified_right"],
            each["n"], each["interval"], ">=", 0.5),
        Bar("SMS: the same of spam alone", rows[2]["certified_right"], rows[2]["n"],
            rows[2]["interval"], ">=", 0.5),
    ]  # fmt: skip
    return rows, bars
