"""Train a classifier of characters on texts as they are, and as an attacker would misspell them."""

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from buckler import draws
from buckler.attacks.wording import variants
from buckler.errors import UsageError
from buckler.models.chars import CharGrams
from buckler.protocols import Progress
from buckler.threats.text import TextEdits
from buckler.threats.text.align import WORD

_AT_ONCE = 4096


@dataclass(frozen=True)
class TextRecipe:
    """How `harden_texts` trains.

    Args:
        threat: what the attacker may do to the words of a text.
        attacked: the classes whose texts the attacker changes (spam, abuse).
        rounds: each spells the words anew, against the net of the round before; 0: clean texts.
        tries: spellings of a word that compete.
        share: what an attacked text weighs beside a clean one.
        fit: the inverse strength of the L2 penalty, as scikit-learn's C.
    """

    threat: TextEdits
    attacked: tuple[int, ...] = (1,)
    rounds: int = 1
    tries: int = 16
    share: float = 0.5
    fit: float = 10.0

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.tries < 1 or not (self.share > 0 and self.fit > 0):
            raise UsageError(
                "a TextRecipe needs rounds >= 0, tries >= 1, share > 0 and fit > 0. "
                f"Got {self.rounds}, {self.tries}, {self.share}, {self.fit}"
            )


def harden_texts(
    texts: Sequence[str],
    y: Tensor,
    recipe: TextRecipe,
    classes: int = 2,
    *,
    path: Sequence[Callable[[str], str]] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> CharGrams:
    """A net fitted to every text as it is and, beside it, as it would be attacked.

    The attack of training is word by word, as cheap as in A2T (Yoo, Qi 2021, arXiv:2109.00544): a
    word's spellings are judged by what the net says of the word alone, once a round; of a text of
    an attacked class the words that speak most for its class are spelled as the net likes less.
    Other texts get spellings by chance, or a slip would itself be a sign. The net is linear over
    its runs, so each round is solved outright (L-BFGS), classes weighing alike.

    Args:
        y: (n,) int64, each class at least once.
        path: text → text before the net: a normaliser.

    Raises: UsageError for lengths that differ, or a class without a text.
    """
    if len(texts) != len(y) or set(y.tolist()) != set(range(classes)):
        raise UsageError(
            f"texts and y must be as many, with each of {classes} classes in y. "
            f"Got {len(texts)} and {len(y)}, classes {sorted(set(y.tolist()))}"
        )
    net, clean = CharGrams(classes, path=path).eval(), list(texts)
    for index in range(recipe.rounds + 1):
        rows, labels, weights = clean, y, torch.ones(len(y))
        if index:
            changed = attacked_texts(net, clean, y, recipe, draws.derive(seed, index))
            rows, labels = clean + changed, torch.cat([y, y])
            weights = torch.cat([weights, torch.full((len(y),), recipe.share)])
        _solve(net, rows, labels, weights, recipe.fit)
        if progress is not None:
            progress(index + 1, recipe.rounds + 1)
    return net


def _solve(net: CharGrams, texts: Sequence[str], y: Tensor, weights: Tensor, fit: float) -> None:
    """Set the net's numbers to those of the fitted logistic regression."""
    read = [net.sees(text) for text in texts]
    parts = [net.grams(read[at : at + _AT_ONCE]) for at in range(0, len(read), _AT_ONCE)]
    sizes = torch.cat([torch.diff(s, append=torch.tensor([len(rows)])) for rows, s in parts])
    ends = np.concatenate([[0], sizes.cumsum(0).numpy()])
    values = (1 / sizes.clamp(min=1).sqrt()).repeat_interleave(sizes).numpy()
    columns = torch.cat([rows for rows, _ in parts]).numpy()
    shape = (len(read), net.table.num_embeddings)
    matrix = sparse.csr_matrix((values, columns, ends), shape=shape)
    solver = LogisticRegression(C=fit, class_weight="balanced", max_iter=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough after so many steps
        solver.fit(matrix, y.numpy(), sample_weight=weights.numpy())
    coefficients, offset = solver.coef_, solver.intercept_
    if len(coefficients) == 1:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        offset = np.concatenate([-offset, offset]) / 2
    with torch.no_grad():
        net.table.weight.copy_(torch.from_numpy(coefficients.T))
        net.bias.copy_(torch.from_numpy(offset))


def attacked_texts(
    net: CharGrams, texts: Sequence[str], y: Tensor, recipe: TextRecipe, seed: int
) -> list[str]:
    """Each text with up to `threat.words` words misspelt."""
    found = [[match.span() for match in WORD.finditer(text)] for text in texts]
    alone = _scores(net, {text[a:b] for text, ab in zip(texts, found, strict=True) for a, b in ab})
    draw = [Random(draws.derive(seed, "row", row)) for row in range(len(texts))]
    chosen = []
    for text, spans, label, random in zip(texts, found, y.tolist(), draw, strict=True):
        count = int(min(len(spans), recipe.threat.words))
        loud = sorted(spans, key=lambda span: -alone[text[slice(*span)]][label])[:count]
        chosen.append(loud if label in recipe.attacked else random.sample(spans, count))
    words = {text[a:b] for text, spans in zip(texts, chosen, strict=True) for a, b in spans}
    spellings = {
        word: variants(word, recipe.threat, recipe.tries, draws.derive(seed, word))
        for word in words
    }
    score = _scores(net, {each for many in spellings.values() for each in many})
    made = []
    for text, spans, label, random in zip(texts, chosen, y.tolist(), draw, strict=True):
        for a, b in sorted(spans, reverse=True):
            many = spellings[text[a:b]]
            if many:
                # Of half of them the worst: always the same one would be learned by heart.
                aimed = label in recipe.attacked
                some = random.sample(many, 1 + len(many) // 2 if aimed else 1)
                text = text[:a] + min(some, key=lambda each: score[each][label]) + text[b:]
        made.append(text)
    return made


def _scores(net: CharGrams, words: Collection[str]) -> dict[str, list[float]]:
    """What the net says of each word alone: log-odds of each class."""
    every = sorted(words)
    found: list[list[float]] = []
    with torch.no_grad():
        for start in range(0, len(every), _AT_ONCE):
            part = every[start : start + _AT_ONCE]
            logits = net.of_grams(*net.grams([net.sees(each) for each in part]))
            found += (2 * logits - logits.sum(1, keepdim=True)).tolist()
    return dict(zip(every, found, strict=True))
