"""Moderation of texts: a shipped model as it stands, and guarded; SMS with certificates."""

import csv
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.results_file import Bar
from buckler import data, draws, files
from buckler.attacks import TextSearch
from buckler.data import Dataset, Split
from buckler.defenses.text import Lexicon, Normaliser
from buckler.harden import TextRecipe, harden_texts
from buckler.models import CharGrams, Counted, TextClassifier
from buckler.stats import wilson
from buckler.text.codes import decode
from buckler.threats import TextEdits
from buckler.threats.text import Kind

Row = dict[str, Any]
Model = Callable[[Tensor], Tensor]
_WORD = re.compile(r"[^\W_]+")
UNICODE: tuple[Kind, ...] = ("homoglyph", "zero-width", "direction")
ATTACKS: tuple[tuple[str, tuple[Kind, ...], float], ...] = (
    ("Unicode: homoglyphs, zero-width, direction", UNICODE, math.inf),
    ("leet", ("leet",), math.inf),
    ("spacing, doubled letters", ("spacing", "double"), math.inf),
    ("all of these together", (*UNICODE, "leet", "spacing", "double"), math.inf),
    ("typos, one a word", ("typo",), 1),
)
SLIPS = TextEdits(3, ("typo",), per_word=1)
_WEIGHT = 0.5
_ROWS = 100


@dataclass(frozen=True)
class Moderation:
    """The tweets, the shipped model as it stands, and the guarded one.

    margin: what the guarded model's log-odds of abuse must exceed.
    """

    tweets: Dataset
    plain: TextClassifier
    reader: Normaliser
    chars: CharGrams
    margin: float

    def guarded(self, x: Tensor) -> Tensor:
        """Log-probabilities (n, 2), shifted so that 0 decides: the shipped model behind the
        normaliser and the net of characters, half and half."""
        with torch.no_grad():
            return mixed(self.shipped(x), self.chars(x)) + torch.tensor([self.margin, 0.0])

    @property
    def shipped(self) -> TextClassifier:
        return TextClassifier(shipped_model()[0], [self.reader])


def mixed(one: Tensor, other: Tensor) -> Tensor:
    """The log of the mean probability."""
    both = torch.stack([one.log_softmax(1), other.log_softmax(1)])
    return both.logsumexp(0) + math.log(_WEIGHT)


def shipped_model() -> tuple[Callable[[list[str]], np.ndarray], dict[str, float]]:
    """alt-profanity-check's answer, and the weight of each word of its vocabulary."""
    from profanity_check import profanity_check as package

    def answer(texts: list[str]) -> np.ndarray:
        found: np.ndarray = package.model.predict_proba(package.vectorizer.transform(texts))
        return found

    parts = [part.estimator.coef_[0] for part in package.model.calibrated_classifiers_]
    mean, rare = np.mean(parts, 0), package.vectorizer.idf_
    vocabulary = package.vectorizer.vocabulary_
    ordered = sorted(vocabulary, key=lambda word: rare[vocabulary[word]])
    return answer, {word: float(mean[vocabulary[word]]) for word in ordered}


def load_tweets(folder: Path) -> Dataset:
    """Davidson's tweets, hate and offensive against neither."""
    with (folder / "hate-speech" / "labeled_data.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = [int(row["class"] != "2") for row in rows]
    return data.of_texts("tweets", [r["tweet"] for r in rows], labels, ("fine", "abuse"),
                         length=1000)  # fmt: skip


def prepare(folder: Path, quick: bool) -> Moderation:
    """Everything is chosen on the fit and select splits."""
    tweets = load_tweets(folder)
    answer, weights = shipped_model()
    fit, select = tweets["fit"], tweets["select"]
    texts, y = decode(fit.x), fit.y
    if quick:
        texts, y = texts[:2500], y[:2500]
    lexicon = make_lexicon(texts, y, weights)
    print(f"text: {len(lexicon.words)} words, {len(lexicon.watched)} watched", flush=True)
    reader = Normaliser(lexicon)
    started = time.process_time()
    chars = harden_texts(texts, y, TextRecipe(SLIPS, tries=8), path=[reader])
    print(f"text: trained in {time.process_time() - started:.0f} CPU s", flush=True)
    bare = Moderation(tweets, TextClassifier(answer), reader, chars, 0.0)
    fine = select.x[select.y == 0]
    odds = bare.guarded(fine)
    false = float((bare.plain(fine).argmax(1) == 1).float().mean())
    # As many false alarms on harmless texts of the select split as the shipped model has, less a
    # tenth: the rate on other texts differs by chance.
    margin = float((odds[:, 1] - odds[:, 0]).quantile(1 - 0.9 * false))
    return Moderation(tweets, bare.plain, reader, chars, margin)


def make_lexicon(texts: Sequence[str], y: Tensor, weights: dict[str, float]) -> Lexicon:
    """Words of harmless texts and frequent ones of the shipped model are known; watched are those
    that speak of abuse, as the model or the labels say, unless a slip reads them into harmless
    texts."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    counts = [Counter[str](), Counter[str]()]
    for text, label in zip(texts, y.tolist(), strict=True):
        counts[label].update(word for word in _WORD.findall(text.lower()) if word.isalpha())
    fine, abuse = counts
    known = [
        *sorted(ENGLISH_STOP_WORDS),
        *[word for word in list(weights)[:3000] if word.isalpha()],
        *[word for word, count in fine.most_common() if count > 1],
    ]
    ratio = 8 * abuse.total() / max(1, fine.total())
    marked = [w for w, c in abuse.most_common() if c > 4 and c > ratio * (fine[w] + 0.5)]
    marked += [word for word, weight in weights.items() if weight > 4 and word.isalpha()]
    marked = [word for word in dict.fromkeys(marked) if len(word) > 2]
    trial = Normaliser(Lexicon(tuple(dict.fromkeys([*known, *marked])), tuple(marked)))
    wrong: Counter[str] = Counter()
    for text, label in zip(texts, y.tolist(), strict=True):
        if not label:
            read = trial.explain(text)
            for span in read.spans:
                wrong.update(_WORD.findall(read.text[span.start : span.stop].lower()))
    watched = tuple(word for word in marked if wrong[word] <= max(1, abuse[word] / 100))
    return Lexicon(tuple(dict.fromkeys([*known, *watched])), watched)


def text_rows(folder: Path, quick: bool) -> tuple[list[Row], list[Bar]]:
    """Clean figures and evasion, as it stands and guarded; the normaliser's time; SMS.

    What is done is kept in out/, so that an interrupted run goes on.
    """
    from benchmarks.domains_sms import sms_rows

    kept = Path("out") / f"domains-text{'-quick' * quick}.json"
    rows: list[Row] = json.loads(kept.read_text()) if kept.exists() else []
    if len(rows) < 2 * (1 + len(ATTACKS)):
        for row in tweet_rows(prepare(folder, quick), quick, len(rows)):
            rows.append(row)
            files.write_json(kept, rows)
    timed = time_reader(folder, quick)
    sms, bars = sms_rows(folder, quick)
    return [*rows, timed, *sms], [*text_bars(rows, timed), *bars]


def tweet_rows(found: Moderation, quick: bool, done: int) -> Iterator[Row]:
    """Row by row, without the first `done`."""
    test = found.tweets["test"]
    systems: dict[str, Model] = {"as it stands": found.plain, "guarded": found.guarded}
    made = 0
    for name, model in systems.items():
        made += 1
        if made > done:
            yield clean_row(name, model, test)
    both = (found.plain(test.x).argmax(1) == 1) & (found.guarded(test.x).argmax(1) == 1)
    some = (both & (test.y == 1)).nonzero()[:, 0]
    some = some[draws.permutation(0, 0, len(some))[: 20 if quick else _ROWS]].sort().values
    for name, model in systems.items():
        for attack, kinds, per_word in ATTACKS:
            made += 1
            # The longest of the guarded searches: half of the rows.
            few = some[::2] if kinds == ATTACKS[3][1] else some
            sees = None if name == "as it stands" else found.reader
            threat = TextEdits(3, kinds, per_word=per_word)
            if made > done:
                yield evade(name, attack, model, test.x[few], threat, few, sees)


def clean_row(name: str, model: Model, test: Split) -> Row:
    """Recall of abuse, and false positives among harmless texts."""
    said = model(test.x).argmax(1)
    hits, fine = test.y == 1, test.y == 0
    row = {
        "data": "tweets",
        "system": name,
        "attack": "none",
        "n": len(test),
        "recall": float((said[hits] == 1).float().mean()),
        "false positives": float((said[fine] == 1).float().mean()),
    }
    print(row, flush=True)
    return row


def evade(
    system: str,
    attack: str,
    model: Model,
    x: Tensor,
    threat: TextEdits,
    ids: Tensor,
    sees: Callable[[str], str] | None,
) -> Row:
    """Share of the caught texts that are let through; one outside the threat is no win."""
    counted, started = Counted(model), time.process_time()
    y = torch.ones(len(x), dtype=torch.long)
    x_adv = TextSearch(tries=32)(counted, x, y, threat, rows=ids)
    won = model(x_adv).argmax(1) == 0
    if sees is not None:
        # Those that held, again: only spellings that the normaliser does not read alike.
        left = (~won).nonzero()[:, 0]
        again = TextSearch(tries=12, compete=2, sees=sees)(
            counted, x[left], y[left], threat, seed=1, rows=ids[left]
        )
        x_adv[left] = again
        won = model(x_adv).argmax(1) == 0
    fine = threat.contains(x, x_adv)
    rate = wilson(int((won & fine).sum()), len(x))
    row = {
        "data": "tweets",
        "system": system,
        "attack": attack,
        "n": len(x),
        "evasion": rate.value,
        "interval": (rate.low, rate.high),
        "outside": int((~fine).sum()),
        "queries": counted.forwards / len(x),
        "cpu_seconds": round(time.process_time() - started, 1),
    }
    print(row, flush=True)
    return row


def time_reader(folder: Path, quick: bool) -> Row:
    """CPU milliseconds of the normaliser on texts of 2 kB, made of tweets of the test split; those
    of the fit split are read before, as a service has read others before."""
    tweets = load_tweets(folder)
    fit = tweets["fit"]
    lexicon = make_lexicon(decode(fit.x), fit.y, shipped_model()[1])
    reader, test = Normaliser(lexicon), decode(tweets["test"].x)
    for text in decode(fit.x):
        reader(text)
    stream = " ".join(test[: 600 if quick else 5000])
    spent = []
    for at in range(0, len(stream) - 2000, 2000):
        part = stream[at : at + 2000]
        started = time.process_time()
        reader(part)
        spent.append(1000 * (time.process_time() - started))
    p50, p99 = (float(np.quantile(spent, share)) for share in (0.5, 0.99))
    row = {"data": "tweets", "system": "normaliser, 2 kB", "attack": "none", "n": len(spent),
           "p50_ms": p50, "p99_ms": p99}  # fmt: skip
    print(row, flush=True)
    return row


def text_bars(rows: list[Row], timed: Row) -> list[Bar]:
    def of(system: str, attack: str) -> Row:
        return next(r for r in rows if (r["system"], r["attack"]) == (system, attack))

    def bar(system: str, attack: str, op: str, least: float) -> Bar:
        row = of(system, attack)
        name = f"tweets, {system}: evasion by {attack}, 3 words"
        return Bar(name, row["evasion"], row["n"], row["interval"], op, least)

    plain, guarded = of("as it stands", "none"), of("guarded", "none")
    lost = plain["recall"] - guarded["recall"]
    added = guarded["false positives"] - plain["false positives"]
    n = plain["n"]
    names = [attack for attack, _, _ in ATTACKS]
    return [
        *[bar("as it stands", names[at], ">=", 0.81) for at in (0, 1, 4)],
        *[bar("guarded", names[at], "<=", 0.03) for at in (0, 1)],
        bar("guarded", names[4], "<=", 0.3),
        Bar("tweets: recall lost by the guard", lost, n, None, "<=", 0.01),
        Bar("tweets: false positives added by the guard", added, n, None, "<=", 0.0),
        Bar("normaliser: p99 CPU ms for 2 kB", timed["p99_ms"], timed["n"], None, "<", 1.0),
    ]  # fmt: skip
