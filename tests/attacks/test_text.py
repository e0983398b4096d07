"""The search over a text's words against everything there is, and within what it may."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from buckler.attacks import TextSearch
from buckler.attacks.wording import variants
from buckler.defenses.text import Normaliser
from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models import Counted
from buckler.models.text import TextClassifier
from buckler.text.codes import decode
from buckler.threats import Goal, LpBall, TextEdits
from buckler.threats.text.align import WORD

SPEC = InputSpec.of_texts(("fine", "spam"), 60)
BAD = {"free": 2.0, "money": 1.5, "win": 1.0, "now": -0.5, "hello": -1.0}
TEXTS = ["win free money", "free hello", "Free money, free money!", "hello you", "win now", "x"]
SWAPS = {"free": ("gratis", "hello"), "money": ("cash", "now")}


def odds(text: str) -> float:
    """Words weigh what stands in BAD; more than 0: spam."""
    return sum(BAD.get(word.lower(), 0.0) for word in WORD.findall(text)) - 0.4


def by_words(texts: list[str]) -> list[list[float]]:
    spam = [1 / (1 + math.exp(-odds(text))) for text in texts]
    return [[1 - p, p] for p in spam]


MODEL = TextClassifier(by_words)


def brute(text: str, threat: TextEdits, tries: int) -> float:
    """The least odds of spam that any choice of words and spellings leaves."""
    spans = [found.span() for found in WORD.finditer(text)]
    least = odds(text)
    for count in range(1, int(threat.words) + 1):
        for chosen in itertools.combinations(spans, count):
            lists = [variants(text[a:b], threat, tries, 0) for a, b in chosen]
            for spellings in itertools.product(*lists):
                made = text
                for (a, b), new in sorted(zip(chosen, spellings, strict=True), reverse=True):
                    made = made[:a] + new + made[b:]
                least = min(least, odds(made))
    return least


@pytest.mark.parametrize("kinds", [("leet",), ("zero-width",), ("typo",), ("substitution",)])
def test_it_finds_what_brute_force_finds(kinds: tuple) -> None:
    """Words weigh alone here, so that greedy is exact."""
    swaps = SWAPS if kinds == ("substitution",) else {}
    threat = TextEdits(2, kinds, per_word=1, substitutes=swaps)
    x, y = SPEC.read(TEXTS), torch.ones(len(TEXTS), dtype=torch.long)
    x_adv = TextSearch(tries=400)(MODEL, x, y, threat)
    assert bool(threat.contains(x, x_adv).all())
    for before, after in zip(TEXTS, decode(x_adv), strict=True):
        least = brute(before, threat, 400)
        if odds(before) <= 0:
            assert after == before  # won before it began
        else:
            assert (odds(after) <= 0) == (least <= 0), (before, after)
            if least > 0:
                assert odds(after) == pytest.approx(least)


def attack(x: Tensor, threat: TextEdits, rows: Tensor, **given: object) -> Tensor:
    y = torch.ones(len(x), dtype=torch.long)
    return TextSearch(tries=20, **given)(MODEL, x, y, threat, seed=3, rows=rows)


def test_a_row_does_not_feel_its_batch() -> None:
    threat, x = TextEdits(2), SPEC.read(TEXTS)
    kept, ids = x.clone(), torch.arange(len(TEXTS)) + 10
    whole = attack(x, threat, ids)
    assert torch.equal(x, kept)
    assert whole.data_ptr() != x.data_ptr()
    assert bool(threat.contains(x, whole).all())
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert torch.equal(attack(x[order], threat, ids[order]), whole[order])
    assert torch.equal(attack(x[1:2], threat, ids[1:2]), whole[1:2])
    assert attack(x[:0], threat, ids[:0]).shape == (0, 60)


def test_limits_hold_and_are_used() -> None:
    x = SPEC.read(["win free money"])
    rows = torch.arange(1)
    for threat in (
        TextEdits(1, ("leet",)),
        TextEdits(3, ("leet",), edits=2),
        TextEdits(3, ("homoglyph", "spacing"), per_word=1),
    ):
        x_adv = attack(x, threat, rows)
        cost = threat.spent(*decode(torch.cat([x, x_adv])))
        assert 1 <= cost.words <= threat.words
        assert cost.edits <= threat.edits


def test_seeing_through_the_normaliser_the_tries_go_where_they_can_win() -> None:
    """One sign in a hundred is read as something else; who tries blindly mostly misses it."""

    def blind_to_one(text: str) -> str:
        return Normaliser()(text.replace("\U0001d41e", "_"))  # a bold e is not undone

    model = TextClassifier(by_words, [blind_to_one])
    texts = ["free free free free"]
    x, y = SPEC.read(texts), torch.ones(1, dtype=torch.long)
    threat = TextEdits(4, ("homoglyph",), per_word=1)
    seeing = TextSearch(tries=3, sees=blind_to_one)(model, x, y, threat)
    assert int(model(seeing).argmax(1)) == 0
    assert "\U0001d41e" in decode(seeing)[0]
    counted = Counted(model)
    TextSearch(tries=40)(counted, x, y, threat)
    asked = Counted(model)
    TextSearch(tries=40, sees=blind_to_one)(asked, x, y, threat)
    assert asked.forwards < counted.forwards


def test_words_that_no_longer_fit_are_not_sent() -> None:
    short = InputSpec.of_texts(("fine", "spam"), 4)
    x = short.read(["free"])
    x_adv = TextSearch()(MODEL, x, torch.ones(1, dtype=torch.long), TextEdits(1, ("zero-width",)))
    assert torch.equal(x_adv, x)


def test_it_aims_where_the_goal_says() -> None:
    x, y = SPEC.read(["hello free"]), torch.zeros(1, dtype=torch.long)
    model = TextClassifier(lambda texts: [[p[0], p[1]] for p in by_words(texts)])
    start = int(model(x).argmax(1))
    threat = TextEdits(2, ("leet",), goal=Goal("targeted", 1 - start))
    assert int(model(TextSearch()(model, x, y, threat)).argmax(1)) == 1 - start


def test_what_it_cannot_do_is_said() -> None:
    x, y = SPEC.read(["free"]), torch.ones(1, dtype=torch.long)
    with pytest.raises(UsageError, match="TextSearch needs TextEdits"):
        TextSearch()(MODEL, x, y, LpBall("linf", 0.1, box=SPEC.box))
    with pytest.raises(UsageError, match="tries and compete >= 1"):
        TextSearch(tries=0)
