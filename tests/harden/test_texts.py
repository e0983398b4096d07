"""A net of characters: what it may not feel, what training on slips gains, and its bundle."""

from pathlib import Path
from random import Random

import pytest
import torch

from buckler import data
from buckler.attacks import TextSearch
from buckler.errors import UsageError
from buckler.guard.build import calibrate
from buckler.guard.bundle import MemberSource, load_bundle, write_bundle
from buckler.harden import TextRecipe, harden_texts
from buckler.models import CharGrams, TextClassifier
from buckler.text.codes import decode
from buckler.threats import TextEdits

SLIPS = TextEdits(1, ("typo",), per_word=1)
GOOD = ("meeting", "dinner", "train", "weather", "garden", "letter", "window", "river", "office")
BAD = ("winner", "prize", "lottery", "casino", "jackpot")


def made(count: int, seed: int = 0) -> tuple[list[str], torch.Tensor]:
    """Five harmless words; of every second text one is a bad word."""
    random, texts = Random(seed), []
    for row in range(count):
        words = random.sample(GOOD, 5)
        if row % 2:
            words[random.randrange(5)] = random.choice(BAD)
        texts.append(" ".join(words) + f" {seed}{row}")
    return texts, torch.arange(count) % 2


@pytest.fixture(scope="module")
def nets() -> dict[int, CharGrams]:
    texts, y = made(120)
    return {n: harden_texts(texts, y, TextRecipe(SLIPS, rounds=n)) for n in (0, 2)}


def robust(net: CharGrams) -> float:
    texts, y = made(60, seed=1)
    x = data.of_texts("t", texts, y.tolist(), ("a", "b"), length=80).spec.read(texts)[y == 1]
    truth = torch.ones(len(x), dtype=torch.long)
    x_adv = TextSearch(tries=200)(net, x, truth, SLIPS)
    return float((net(x_adv).argmax(1) == 1).float().mean())


def test_training_on_slips_gains_against_slips(nets: dict[int, CharGrams]) -> None:
    texts, y = made(60, seed=1)
    for net in nets.values():
        logits = net.of_grams(*net.grams([net.sees(text) for text in texts]))
        assert float((logits.argmax(1) == y).float().mean()) >= 0.95
    assert robust(nets[2]) > robust(nets[0])


def test_disguises_change_no_bit(nets: dict[int, CharGrams]) -> None:
    spec = data.InputSpec.of_texts(("a", "b"), 40)
    x = spec.read(["a w\u0456nner is", "a winner is", "a W1NNER is", "a w.i\u200bnneer is"])
    logits = nets[0](x)
    assert torch.equal(logits[1:], logits[:1].expand(3, -1))


def test_a_row_does_not_feel_its_batch(nets: dict[int, CharGrams]) -> None:
    spec = data.InputSpec.of_texts(("a", "b"), 60)
    x = spec.read(["a prize", "dinner at the office tomorrow", "\u200b", "x"])
    whole = nets[0](x)
    assert torch.allclose(torch.cat([nets[0](row[None]) for row in x]), whole, atol=1e-6)
    assert nets[0](x[:0]).shape == (0, 2)
    assert bool(whole.isfinite().all())


def test_it_travels_in_a_bundle(nets: dict[int, CharGrams], tmp_path: Path) -> None:
    texts, y = made(400, seed=2)
    found = data.of_texts("made", texts, y.tolist(), ("fine", "bad"), length=80)
    guard = calibrate(found, [nets[0]], [1.0], review_rate=0.05)
    source = MemberSource("chars", "buckler.models.chars:char_grams")
    write_bundle(guard, found, [source], tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    x = found["test"].x
    assert loaded.spec == found.spec
    judged = [(v.prediction, v.status) for v in guard.judge(x)]
    assert [(v.prediction, v.status) for v in loaded.judge(x)] == judged
    assert decode(x)[0] in texts


def test_texts_without_a_class_are_refused() -> None:
    with pytest.raises(UsageError, match="each of 2 classes"):
        harden_texts(["a", "b"], torch.zeros(2, dtype=torch.long), TextRecipe(SLIPS))
    with pytest.raises(UsageError, match="rounds >= 0"):
        TextRecipe(SLIPS, rounds=-1)


def test_whatever_classifies_strings_is_a_classifier() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, y = made(80)
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, y.numpy())
    x = data.InputSpec.of_texts(("a", "b"), 80).read(texts)
    found = TextClassifier(pipeline)(x).softmax(1)
    assert torch.allclose(found, torch.tensor(pipeline.predict_proba(texts)).float(), atol=1e-5)
    column = TextClassifier(lambda t: pipeline.predict_proba(t)[:, 1])(x).softmax(1)
    assert torch.allclose(column, found, atol=1e-5)
    asked: list[int] = []
    once = TextClassifier(lambda t: asked.append(len(t)) or pipeline.predict_proba(t), [str.lower])
    assert once(x[:1].repeat(5, 1)).shape == (5, 2)
    assert asked == [1]
    for wrong, sentence in (
        (lambda t: [[0.2, 0.2]] * len(t), "1 in sum"),
        (lambda t: [[1.0, 0.0]], "of the shape"),
        (lambda t: [[2.0, -1.0]] * len(t), "1 in sum"),
    ):
        with pytest.raises(UsageError, match=sentence):
            TextClassifier(wrong)(x[:2])
    with pytest.raises(UsageError, match="must be callable, or have predict_proba"):
        TextClassifier(3)
