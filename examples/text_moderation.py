"""A spam filter that one odd letter fools, and the same filter behind a normaliser.

Everything is made here: small advertisements and small talk, a filter trained on them, the attack,
the guard, and the guarantee. Run: python examples/text_moderation.py
"""

import math
import random

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import Tensor

from buckler import TextEdits, TextSearch, data
from buckler.certify import certify_words
from buckler.certify.words import masked
from buckler.defenses.text import Lexicon, Normaliser
from buckler.guard.build import calibrate
from buckler.harden import TextRecipe, harden_texts
from buckler.models import TextClassifier
from buckler.text.codes import decode

TALK = (
    "see you at dinner tomorrow the train was late again how is your mother i will call back soon"
)
SALE = (
    "free prize winner claim your bonus cash now cheap loan casino click urgent offer credit money"
)
SPAM = ("free", "prize", "winner", "bonus", "cash", "loan", "casino", "credit", "claim")
KEEP = 0.25


def made(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Small talk (0), and small talk with five words of a sale in it (1)."""
    draw, texts = random.Random(seed), []
    for row in range(count):
        words = draw.choices(TALK.split(), k=draw.randint(6, 12))
        for _ in range(5 * (row % 2)):
            words.insert(draw.randrange(len(words)), draw.choice(SALE.split()))
        texts.append(" ".join(words))
    return texts, [row % 2 for row in range(count)]


def evasion(model: torch.nn.Module, x: Tensor, threat: TextEdits) -> tuple[float, Tensor]:
    """Share of the caught spam that gets through, and the texts that did it."""
    caught = x[model(x).argmax(1) == 1]
    x_adv = TextSearch(tries=24)(model, caught, torch.ones(len(caught), dtype=torch.long), threat)
    through = (model(x_adv).argmax(1) == 0) & threat.contains(caught, x_adv)
    return float(through.float().mean()), x_adv[through]


def main(count: int = 1500) -> dict[str, float]:
    texts, labels = made(count, seed=0)
    messages = data.of_texts("messages", texts, labels, ("fine", "spam"), length=300)
    fit, test = messages["fit"], messages["test"]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    pipeline.fit(decode(fit.x), fit.y.numpy())
    plain = TextClassifier(pipeline)
    spam = test.x[test.y == 1][:30]

    # What a sender may do: three words, as many odd letters as they like.
    disguise = TextEdits(3)
    slips = TextEdits(3, ("typo",), per_word=1)
    found, through = evasion(plain, spam, disguise)
    print(f"as it stands: {found:.0%} of the spam gets through in disguise, as in")
    print(f"  {decode(through[:1])!r}"[:120])

    words = tuple(dict.fromkeys((*SPAM, *TALK.split(), *SALE.split())))
    reader = Normaliser(Lexicon(words, watched=SPAM))
    chars = harden_texts(decode(fit.x), fit.y, TextRecipe(slips), path=[reader])
    guard = calibrate(messages, [TextClassifier(pipeline, [reader]), chars], [1, 1],
                      review_rate=0.05)  # fmt: skip
    answers = Answers(guard.classifier())
    results = {"plain": found, "guarded": evasion(answers, spam, disguise)[0]}
    results["slips"] = evasion(answers, spam, slips)[0]
    right = float((answers(test.x).argmax(1) == test.y).float().mean())
    print(f"guarded: {results['guarded']:.0%}; by slips of the pen {results['slips']:.0%}; "
          f"{right:.1%} of untouched texts right")  # fmt: skip
    print("a verdict:", guard.judge(messages.spec.read(["claim your fr\u0435\u0435 pr1ze"]))[0])

    seen = [masked(text, KEEP, row) for row, text in enumerate(decode(fit.x))]
    voter = harden_texts(seen, fit.y, TextRecipe(slips, rounds=0))

    def vote(parts: list[str]) -> Tensor:
        with torch.no_grad():
            return voter.of_grams(*voter.grams([voter.sees(part) for part in parts]))

    proofs = certify_words(vote, decode(test.x[:30]), words=1, keep=KEEP, n=400)
    results["certified"] = sum(not proof.abstained for proof in proofs) / len(proofs)
    print(f"certified against any one replaced word: {results['certified']:.0%}, as in")
    print("  " + str(next((proof for proof in proofs if not proof.abstained), proofs[0])))
    assert all(math.isfinite(value) for value in results.values())
    return results


class Answers(torch.nn.Module):
    """A guard's answers, as a classifier under attack: its reviews left out, so that nothing that
    would go to a person counts for the guard."""

    def __init__(self, classifier: object) -> None:
        super().__init__()
        self._classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = self._classifier(x)  # type: ignore[operator]
        return found


if __name__ == "__main__":
    main()
